//! The front door from outside: over loopback, with a store in memory behind it.

mod client;
mod hostile;
mod limits;
mod usual;

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::net::TcpListener;

use self::client::Client;
use crate::backend::Backend;
use crate::config::{Config, Limits};
use crate::names::Tenant;
use crate::users::{Secret, User, Users};
use crate::{Counters, Memory, Service, Setup};

struct World {
    service: Service,
    metrics: telemetry::Metrics,
    client: Client,
    /// Of the same tenant.
    colleague: Client,
    stranger: Client,
}

impl World {
    async fn new() -> Self {
        Self::within(Limits::default(), Arc::new(Memory::new())).await
    }

    /// With the bucket `bucket`.
    async fn within(limits: Limits, backend: Arc<dyn Backend>) -> Self {
        let users = [
            ("CLIENT", "secret of the client", "one"),
            ("COLLEAGUE", "secret of the colleague", "one"),
            ("STRANGER", "secret of the stranger", "two"),
        ];
        let user = |(access_key, secret, tenant): (&str, &str, &str)| User {
            access_key: access_key.to_owned(),
            secret: Secret::new(secret.to_owned()),
            tenant: Tenant::new(tenant).expect("a name"),
        };
        let metrics = telemetry::Metrics::new();
        let setup = Setup {
            config: Config {
                region: "here".to_owned(),
                domains: vec!["s3.test".to_owned()],
                limits,
            },
            users: Users::new(users.map(user)),
            backend,
            tls: None,
            counters: Counters::new(&metrics),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let service = crate::serve(listener.expect("loopback can be listened on"), setup);
        let service = service.expect("it has an address");
        let addr = service.addr;
        let [client, colleague, stranger] = users.map(|(access_key, secret, _)| Client {
            addr,
            access_key,
            secret,
        });
        let made = client.put("/bucket", b"").await;
        assert_eq!(made.status, 200, "{}", made.text());
        Self {
            service,
            metrics,
            client,
            colleague,
            stranger,
        }
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.render();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }
}
