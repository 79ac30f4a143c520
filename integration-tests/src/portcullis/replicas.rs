//! Group of replicas of Portcullis with one configuration, which tests can kill and restart.

use std::net::SocketAddr;

use super::{Config, Portcullis};
use crate::{admin::Admin, ports::Port};

/// Running replicas. Each keeps its ports when it is killed and restarted, so that its addresses
/// stay valid. They are killed when this is dropped.
#[derive(Debug)]
pub struct Replicas {
    config: Config,
    replicas: Vec<Replica>,
}

#[derive(Debug)]
struct Replica {
    // Before the ports, which others may take as soon as they are dropped.
    portcullis: Portcullis,
    ports: Ports,
}

#[derive(Debug)]
struct Ports {
    grpc: Port,
    http: Port,
    admin: Port,
}

// === impl Replicas ===

impl Replicas {
    /// Starts `count` replicas and waits until all are ready.
    pub async fn start(count: usize, config: &Config) -> Self {
        let mut replicas = Self::launch(count, config).await;
        replicas.ready().await;
        replicas
    }

    /// Starts `count` replicas and waits until all listen, before they are ready.
    pub async fn launch(count: usize, config: &Config) -> Self {
        let mut replicas = Vec::new();
        for _ in 0..count {
            let ports = Ports::reserve();
            let portcullis = Portcullis::launch(&ports.apply(config)).await;
            replicas.push(Replica { portcullis, ports });
        }
        Self { config: config.clone(), replicas }
    }

    /// Waits until all are ready.
    ///
    /// # Panics
    /// When one ended.
    pub async fn ready(&mut self) {
        for replica in &mut self.replicas {
            replica.portcullis.ready().await;
        }
    }

    /// One of them, by its place.
    #[must_use]
    pub fn get(&self, index: usize) -> &Portcullis {
        &self.replicas[index].portcullis
    }

    /// One of them, by its place, for its process.
    pub fn get_mut(&mut self, index: usize) -> &mut Portcullis {
        &mut self.replicas[index].portcullis
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Portcullis> {
        self.replicas.iter().map(|replica| &replica.portcullis)
    }

    /// The gRPC edges, for Envoy.
    #[must_use]
    pub fn grpc(&self) -> Vec<SocketAddr> {
        self.iter().map(|portcullis| portcullis.addresses().grpc).collect()
    }

    /// The HTTP edges.
    #[must_use]
    pub fn http(&self) -> Vec<SocketAddr> {
        self.iter().map(|portcullis| portcullis.addresses().http()).collect()
    }

    /// The admin APIs.
    #[must_use]
    pub fn admins(&self) -> Vec<Admin> {
        self.iter().map(Portcullis::admin).collect()
    }

    /// Kills one, as a crash would.
    pub fn kill(&mut self, index: usize) {
        self.replicas[index].portcullis.kill();
    }

    /// Restarts one on the same ports, and waits until it is ready.
    pub async fn restart(&mut self, index: usize) {
        self.relaunch(index, |config| config).await;
        self.replicas[index].portcullis.ready().await;
    }

    /// Restarts one on the same ports with a configuration derived from the common one, and waits
    /// until it listens.
    pub async fn relaunch(&mut self, index: usize, change: impl FnOnce(Config) -> Config) {
        let replica = &mut self.replicas[index];
        replica.portcullis.kill();
        let config = change(replica.ports.apply(&self.config));
        replica.portcullis.relaunch(&config).await;
    }
}

// === impl Ports ===

impl Ports {
    fn reserve() -> Self {
        Self { grpc: Port::reserve(), http: Port::reserve(), admin: Port::reserve() }
    }

    fn apply(&self, config: &Config) -> Config {
        config
            .clone()
            .with("grpc.listen", self.grpc.address().to_string())
            .with("http.listen", self.http.address().to_string())
            .with("admin.listen", self.admin.address().to_string())
    }
}
