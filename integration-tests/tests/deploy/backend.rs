//! Tests of the example backend: it reads the identity of the caller from headers.

use std::process::Command;

use portcullis_integration_tests::{client::Request, eventually, ports::Port, process::Process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::documents::deploy;

const USER: &str = "5f0c8a54-4c5b-4f0e-9f3a-0d6f3a1f1c11";

/// A running backend.
struct Backend {
    // Before the folder, so that the process has ended when its files are removed.
    _process: Process,
    port: Port,
    _folder: TempDir,
}

impl Backend {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let port = Port::reserve();
        let address = port.address();
        let mut command = Command::new("python3");
        command.arg(deploy("compose/backend.py")).args(["--port", &port.number().to_string()]);
        let mut process = Process::start("backend", command, folder.path());
        eventually::holds("the backend answers", || {
            process.assert_running();
            async move {
                let response = Request::get("/health").try_send(address).await;
                response.is_ok_and(|response| response.status == 200)
            }
        })
        .await;
        Self { _process: process, port, _folder: folder }
    }

    async fn ask(&self, request: Request) -> (u16, Value) {
        let response = request.send(self.port.address()).await;
        (response.status, response.json())
    }
}

#[tokio::test]
async fn the_backend_refuses_a_request_without_a_caller() {
    let backend = Backend::start().await;
    let missing = (401, json!({"detail": "Missing x-user-id header"}));
    assert_eq!(backend.ask(Request::get("/api/me")).await, missing);
    assert_eq!(backend.ask(Request::get("/api/me").header("x-user-id", "")).await, missing);
    assert_eq!(backend.ask(Request::post("/api/me", "{}")).await, missing);
    for wrong in ["alice", "5f0c8a54-4c5b-4f0e-9f3a", "' OR 1=1"] {
        let answer = backend.ask(Request::get("/api/me").header("x-user-id", wrong)).await;
        assert_eq!(answer, (401, json!({"detail": "Invalid x-user-id format"})));
    }
}

#[tokio::test]
async fn the_backend_reads_the_caller_from_headers_without_a_token() {
    let backend = Backend::start().await;
    let request = || Request::get("/api/me").header("x-user-id", USER);
    let answer =
        |provider| (200, json!({"path": "/api/me", "user_id": USER, "provider": provider}));
    assert_eq!(backend.ask(request()).await, answer("unknown"));
    assert_eq!(backend.ask(request().header("x-auth-provider", "")).await, answer("unknown"));
    assert_eq!(backend.ask(request().header("x-auth-provider", "kakao")).await, answer("kakao"));
}
