//! Owns a real Redis of its own for a test.

use std::net::SocketAddr;

use super::{
    RedisClient,
    container::{Container, Setup},
    images::IMAGES,
};
use crate::ports::Port;

/// A running Redis. It is removed when this is dropped.
#[derive(Debug)]
pub struct Redis {
    // Before the port, which others may take as soon as it is dropped.
    container: Container,
    port: Port,
    password: Option<String>,
}

/// It keeps what it has confirmed when it is killed.
const SERVER: &str = "exec redis-server --dir /tmp --bind 0.0.0.0 --protected-mode no \
                                 --save '' --appendonly yes";
/// Where Redis listens inside its container.
const INSIDE: u16 = 6379;

// === impl Redis ===

impl Redis {
    /// Starts it and waits until it answers.
    pub async fn start() -> Self {
        Self::launch(None).await
    }

    /// Starts one that asks for a password.
    pub async fn start_with_password(password: &str) -> Self {
        Self::launch(Some(password.to_owned())).await
    }

    async fn launch(password: Option<String>) -> Self {
        let port = Port::reserve();
        let mut script = SERVER.to_owned();
        if password.is_some() {
            script.push_str(" --requirepass \"$PASSWORD\"");
        }
        let mut setup = Setup::new("redis", &IMAGES.redis, &script).publish([(&port, INSIDE)]);
        if let Some(password) = &password {
            setup = setup.env("PASSWORD", password);
        }
        let container = setup.start().await;
        let redis = Self { container, port, password };
        redis.ready().await;
        redis
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its URL, without a password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address())
    }

    /// A client for assertions.
    pub fn client(&self) -> RedisClient {
        RedisClient::new(self.address(), self.password.as_deref())
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// When it ends instead, or does not in time.
    pub async fn ready(&self) {
        self.container.assert_running().await;
        self.client().ready().await;
    }

    /// Kills it, as a crash would. What it has confirmed stays.
    pub async fn kill(&self) {
        self.container.kill().await;
    }

    /// Starts it again on the same port, with what it had stored, and waits until it answers.
    pub async fn restart(&self) {
        self.container.start_again().await;
        self.ready().await;
    }

    /// Stops it where it is: it takes connections, and does not answer.
    pub async fn pause(&self) {
        self.container.pause().await;
    }

    /// Lets it go on.
    pub async fn unpause(&self) {
        self.container.unpause().await;
    }

    /// Deletes everything in it.
    pub async fn flush(&self) {
        self.client().flush().await;
    }
}
