//! For tests: an S3 server in this process, over real HTTP, with a proxy in between that spoils connections.

mod proxy;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use s3::users::{User, Users};
use s3::{Backend as _, Memory, Service, Setup};
use store::{Credentials, Secret};
use tokio::net::TcpListener;

pub use self::proxy::{Fault, Proxy};
use crate::Tier2;

/// Where answers do not come.
pub const LITTLE_PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct World {
    pub tier2: Tier2,
    pub proxy: Proxy,
    _service: Service,
}

/// `retries`: of each request.
pub async fn world(retries: usize) -> World {
    world_with(retries, store::s3::Limits::default().patience).await
}

pub async fn world_with(retries: usize, patience: Duration) -> World {
    let backend = Memory::new();
    let tenant = s3::names::Tenant::new("one").expect("a tenant");
    let bucket = s3::names::BucketName::new("data").expect("a bucket");
    backend
        .create_bucket(&bucket, &tenant)
        .await
        .expect("there is none");
    let user = User {
        access_key: "KEY".to_owned(),
        secret: s3::users::Secret::new("secret".to_owned()),
        tenant,
    };
    let setup = Setup {
        config: s3::Config::default(),
        users: Users::new([user]),
        backend: Arc::new(backend),
        tls: None,
        counters: s3::Counters::new(&telemetry::Metrics::new()),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let service = s3::serve(listener.expect("a port"), setup).expect("it serves");
    let proxy = Proxy::start(service.addr).await;
    World {
        tier2: tier2(&format!("http://{}", proxy.addr), retries, patience),
        proxy,
        _service: service,
    }
}

/// Each request of which has a connection of its own, and so a fault.
pub fn tier2(endpoint: &str, retries: usize, patience: Duration) -> Tier2 {
    let counters = store::s3::Counters::new(&telemetry::Metrics::new());
    let config = store::s3::Config {
        endpoint: Some(endpoint.parse().expect("a URL")),
        region: "us-east-1".to_owned(),
        credentials: Credentials {
            access_key: "KEY".to_owned(),
            secret: Secret::new("secret"),
            token: None,
        },
        authorities: None,
        limits: store::s3::Limits {
            patience,
            bytes_per_second: 8 << 20,
            idle_connections: 0,
            retries,
            ..store::s3::Limits::default()
        },
    };
    let s3 = store::S3::new(config, counters).expect("it opens");
    Tier2::new(s3, "here")
}
