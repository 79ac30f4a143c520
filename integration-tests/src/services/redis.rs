//! Redis container for one test.

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

/// It keeps confirmed writes when it is killed.
const SERVER: &str = "exec redis-server --dir /tmp --bind 0.0.0.0 --protected-mode no \
                                 --save '' --appendonly yes";
/// The port of Redis inside its container.
const INSIDE: u16 = 6379;

// === impl Redis ===

impl Redis {
    /// Starts it and waits until it answers.
    pub async fn start() -> Self {
        Self::launch(None).await
    }

    /// Starts one that requires a password.
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

    /// Its address.
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

    /// Kills it, as a crash would. Confirmed writes stay.
    pub async fn kill(&self) {
        self.container.kill().await;
    }

    /// Restarts it on the same port, with its data, and waits until it answers.
    pub async fn restart(&self) {
        self.container.start_again().await;
        self.ready().await;
    }

    /// Pauses it: it accepts connections, and does not answer.
    pub async fn pause(&self) {
        self.container.pause().await;
    }

    /// Resumes it.
    pub async fn unpause(&self) {
        self.container.unpause().await;
    }

    /// Deletes all keys.
    pub async fn flush(&self) {
        self.client().flush().await;
    }
}
