//! Envoy process for tests, in front of an upstream and an authorization server.

mod config;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

pub use config::{EnvoyConfig, VIRTUAL_HOST};

use crate::{client::Request, eventually, places, process::Process};

/// A running Envoy. It stops when this is dropped.
#[derive(Debug)]
pub struct Envoy {
    // Before the folder, so that the process is gone when its files are removed.
    process: Process,
    listeners: Value,
    admin: SocketAddr,
    _folder: TempDir,
}

impl Envoy {
    /// Starts it and waits until it accepts traffic.
    ///
    /// # Panics
    /// When there is no Envoy, or when it refuses the configuration.
    pub async fn start(config: &EnvoyConfig) -> Self {
        Self::launch(&config.bootstrap()).await
    }

    /// Starts it with a whole configuration, and waits until it accepts traffic.
    ///
    /// # Panics
    /// When there is no Envoy, or when it refuses the configuration.
    pub async fn launch(bootstrap: &Value) -> Self {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let file = folder.path().join("envoy.json");
        std::fs::write(&file, bootstrap.to_string()).expect("the folder is writable");
        let admin_file = folder.path().join("admin");
        let mut command = Command::new(places::envoy());
        command
            .arg("--config-path")
            .arg(&file)
            .arg("--admin-address-path")
            .arg(&admin_file)
            // Tests run in parallel, and each Envoy would otherwise look for its predecessor (hot
            // restart).
            .arg("--disable-hot-restart")
            .args(["--concurrency", "1", "--log-level", "warning"]);
        let mut process = Process::start("envoy", command, folder.path());
        let admin: SocketAddr = eventually::some("Envoy opens its admin port", || {
            process.assert_running();
            let text = std::fs::read_to_string(&admin_file).unwrap_or_default();
            std::future::ready(text.parse().ok())
        })
        .await;
        eventually::holds("Envoy is ready", || {
            process.assert_running();
            async move {
                let response = Request::get("/ready").try_send(admin).await;
                response.is_ok_and(|response| response.status == 200)
            }
        })
        .await;
        let listeners = Request::get("/listeners?format=json").send(admin).await.json();
        Self { process, listeners, admin, _folder: folder }
    }

    /// The address for HTTP.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.listener("http")
    }

    /// The address for raw connections.
    #[must_use]
    pub fn tcp(&self) -> SocketAddr {
        self.listener("tcp")
    }

    /// The address of a listener.
    ///
    /// # Panics
    /// When the listener is not configured.
    #[must_use]
    pub fn listener(&self, name: &str) -> SocketAddr {
        let port = listener_port(&self.listeners, name);
        loopback(port.unwrap_or_else(|| panic!("this Envoy has no listener `{name}`")))
    }

    /// The value of a counter or gauge, by its full name; 0 until Envoy creates it.
    pub async fn stat(&self, name: &str) -> u64 {
        let filter = format!("/stats?filter=^{}$", name.replace('.', "\\."));
        let text = Request::get(&filter).send(self.admin).await.text();
        text.trim().rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// Its log so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }
}

fn listener_port(listeners: &Value, name: &str) -> Option<u16> {
    let listener =
        listeners["listener_statuses"].as_array()?.iter().find(|status| status["name"] == name)?;
    let port = listener["local_address"]["socket_address"]["port_value"].as_u64()?;
    u16::try_from(port).ok()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
