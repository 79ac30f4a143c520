//! A fake Redis server or sentinel for tests: a TCP peer that speaks the protocol and follows a
//! script.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use portcullis_runtime::{
    drain::{self, DeadTasks, Drain},
    telemetry::RedisMetrics,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::Redis;
use crate::config::Config;

/// How it answers.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) is_primary: bool,
    /// How many replicas are connected.
    pub(super) replicas: usize,
    /// How many of them confirm.
    pub(super) confirming: usize,
    pub(super) password: Option<&'static str>,
    /// Its answer as a sentinel: host and port of the primary.
    pub(super) names: Option<(String, u16)>,
    /// Nothing is answered.
    pub(super) is_silent: bool,
    /// `WAIT` is not answered.
    pub(super) holds_wait: bool,
    /// Connections that were made before the last change of this are closed.
    pub(super) epoch: u32,
}

/// A peer, until the test ends.
#[derive(Debug)]
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

/// How long a connection may take to open: much more than any takes on a busy machine.
const PATIENT: &str = "connect_timeout: 10s";

/// A store with its keeper.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) redis: Redis,
    pub(super) drain: Drain,
    _dead: DeadTasks,
}

#[derive(Debug)]
struct Shared {
    script: watch::Sender<Script>,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    connections: usize,
    commands: Vec<String>,
}

// === impl Fake ===

impl Fake {
    /// A primary without replicas.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Script {
            is_primary: true,
            replicas: 0,
            confirming: 0,
            password: None,
            names: None,
            is_silent: false,
            holds_wait: false,
            epoch: 0,
        };
        let shared = Arc::new(Shared { script: watch::Sender::new(script), log: Mutex::default() });
        let (drain, _) = drain::pair();
        drain.spawn("fake", accept(listener, Arc::clone(&shared), drain.clone()));
        Self { address, shared }
    }

    /// A sentinel that names `address` as the primary.
    pub(super) async fn sentinel(address: SocketAddr) -> Self {
        let fake = Self::start().await;
        fake.name(&address.ip().to_string(), address.port());
        fake
    }

    pub(super) fn name(&self, host: &str, port: u16) {
        self.change(|script| script.names = Some((host.to_owned(), port)));
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Script)) {
        self.shared.script.send_modify(change);
    }

    /// Closes all connections.
    pub(super) fn cut(&self) {
        self.change(|script| script.epoch += 1);
    }

    /// How many connections have been made.
    pub(super) fn connections(&self) -> usize {
        self.shared.log().connections
    }

    /// The commands that begin with `name`.
    pub(super) fn commands(&self, name: &str) -> Vec<String> {
        let log = self.shared.log();
        log.commands.iter().filter(|command| command.starts_with(name)).cloned().collect()
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, drain: Drain) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.log().connections += 1;
        drain.spawn("fake connection", serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut script = shared.script.subscribe();
    let epoch = script.borrow().epoch;
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut is_known = false;
    let closed = script.wait_for(|script| script.epoch != epoch);
    let answering = async {
        while let Some(words) = command(&mut reader).await {
            shared.log().commands.push(words.join(" "));
            let mut script = shared.script.subscribe();
            let is_wait = words[0] == "WAIT";
            let spoken =
                script.wait_for(|script| !(script.is_silent || is_wait && script.holds_wait));
            let Ok(script) = spoken.await.map(|script| script.clone()) else { return };
            let reply = reply(&script, &words, &mut is_known);
            if writer.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        _ = closed => {}
        () = answering => {}
    }
}

fn reply(script: &Script, words: &[String], is_known: &mut bool) -> String {
    let last = words.last().map_or("", String::as_str);
    match words[0].to_ascii_uppercase().as_str() {
        "AUTH" if script.password == Some(last) => {
            *is_known = true;
            "+OK\r\n".to_owned()
        }
        "AUTH" => "-WRONGPASS no\r\n".to_owned(),
        _ if script.password.is_some() && !*is_known => "-NOAUTH no\r\n".to_owned(),
        "PING" => "+PONG\r\n".to_owned(),
        "ROLE" if script.is_primary => {
            let replicas = "*3\r\n$4\r\nhost\r\n$4\r\n6379\r\n$1\r\n0\r\n".repeat(script.replicas);
            format!("*3\r\n$6\r\nmaster\r\n:0\r\n*{}\r\n{replicas}", script.replicas)
        }
        "ROLE" => {
            "*5\r\n$5\r\nslave\r\n$4\r\nhost\r\n:6379\r\n$9\r\nconnected\r\n:0\r\n".to_owned()
        }
        "SENTINEL" => match &script.names {
            Some((host, port)) => {
                let port = port.to_string();
                format!("*2\r\n${}\r\n{host}\r\n${}\r\n{port}\r\n", host.len(), port.len())
            }
            None => "*-1\r\n".to_owned(),
        },
        "WAIT" => format!(":{}\r\n", script.confirming),
        "EVALSHA" => ":1\r\n".to_owned(),
        _ => "+OK\r\n".to_owned(),
    }
}

/// The next command, as its words.
async fn command(reader: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Vec<String>> {
    let mut words = Vec::new();
    for _ in 0..length(reader, '*').await? {
        let length = length(reader, '$').await?;
        let mut word = vec![0; length + 2];
        reader.read_exact(&mut word).await.ok()?;
        word.truncate(length);
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Some(words)
}

async fn length(reader: &mut (impl AsyncBufReadExt + Unpin), kind: char) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(kind)?.parse().ok()
}

// === impl Kept ===

impl Kept {
    /// What `yaml` describes, with its keeper running.
    pub(super) fn start(yaml: &str) -> Self {
        let config: Config = serde_saphyr::from_str(&format!("redis: {{ {yaml} }}")).unwrap();
        let built = Redis::build(&config.redis.unwrap(), RedisMetrics::default());
        let (redis, keeper) = built.unwrap();
        let (drain, dead) = drain::pair();
        drain.spawn("keeper", keeper.run(drain.clone()));
        Self { redis, drain, _dead: dead }
    }

    /// With a Redis at this address.
    pub(super) fn at(address: SocketAddr, more: &str) -> Self {
        Self::start(&format!("url: 'redis://{address}', {PATIENT}{more}"))
    }

    /// With these sentinels.
    pub(super) fn by(sentinels: &[Fake]) -> Self {
        let all: Vec<_> = sentinels.iter().map(|one| format!("'{}'", one.address)).collect();
        Self::start(&format!("sentinels: [{}], master_name: m, {PATIENT}", all.join(", ")))
    }
}
