//! The telemetry server over real sockets.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use telemetry::{Health, Metrics, Service};
use tokio::runtime::Runtime;

/// Long enough for a loaded machine; a server that does not answer fails the test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    metrics: Metrics,
    health: Health,
    service: Service,
    _runtime: Runtime,
}

fn start() -> World {
    let runtime = Runtime::new().expect("a runtime starts");
    let metrics = Metrics::new();
    let health = Health::starting("recovery");
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let service = runtime
        .block_on(telemetry::serve(any_port, metrics.clone(), health.clone()))
        .expect("loopback can be listened on");
    World {
        metrics,
        health,
        service,
        _runtime: runtime,
    }
}

impl World {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.service.addr).expect("the server accepts");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("the timeout is not zero");
        stream
    }

    /// What the server answers to these bytes until it closes.
    fn answer(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).expect("the server reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("the server answers and closes");
        answer
    }

    fn get(&self, path: &str) -> String {
        self.answer(
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
        )
    }
}

#[test]
fn metrics_are_served_in_the_text_format() {
    let world = start();
    world.metrics.counter("cells_moves_total", "Moves.").inc();
    let answer = world.get("/metrics");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{answer}"
    );
    assert!(answer.contains("\ncells_moves_total 1\n"), "{answer}");
    assert!(
        answer.contains("\ntelemetry_http_connections 1\n"),
        "{answer}"
    );
}

#[test]
fn readiness_follows_the_reasons_and_health_does_not() {
    let world = start();
    let before = world.get("/readyz");
    assert!(before.starts_with("HTTP/1.1 503 "), "{before}");
    assert!(before.ends_with("\r\n\r\nrecovery: starting\n"), "{before}");
    assert!(world.get("/healthz").starts_with("HTTP/1.1 200 "));
    world.health.clear("recovery");
    let after = world.get("/readyz");
    assert!(
        after.starts_with("HTTP/1.1 200 ") && after.ends_with("\r\n\r\nready\n"),
        "{after}"
    );
}

#[test]
fn other_paths_and_methods_are_refused() {
    let world = start();
    assert!(world.get("/").starts_with("HTTP/1.1 404 "));
    assert!(
        world
            .get("/metrics/../../etc/passwd")
            .starts_with("HTTP/1.1 404 ")
    );
    let post = world.answer(
        b"POST /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
}

#[test]
fn malformed_requests_get_an_answer() {
    let world = start();
    let many_headers = "X: y\r\n".repeat(1000);
    for request in [
        "nonsense\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nbad header\r\n\r\n",
        &format!("GET / HTTP/1.1\r\n{many_headers}\r\n"),
        "\u{1}\u{2}\u{3}\r\n\r\n",
    ] {
        let answer = world.answer(request.as_bytes());
        assert!(
            answer.starts_with("HTTP/1.1 4"),
            "{request:?} is answered by {answer:?}"
        );
    }
    assert!(
        world.get("/healthz").starts_with("HTTP/1.1 200 "),
        "the server lives on"
    );
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let world = start();
    let runtime = Runtime::new().expect("a runtime starts");
    let addr = world.service.addr;
    let error = runtime
        .block_on(telemetry::serve(
            addr,
            Metrics::new(),
            Health::starting("a"),
        ))
        .expect_err("the port is taken");
    assert_eq!(error.to_string(), format!("listen for telemetry on {addr}"));
}
