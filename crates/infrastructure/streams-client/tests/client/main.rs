//! The client against a store and a controller in this process, over connections that may be cut anywhere.

mod controller;
mod proxy;
mod requests;
mod store;

mod exactly_once;
mod protocol;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use rt::Task;
use streams_client::Client;
use streams_client::client::Config;
use streams_client::controller::{Address, Scaling, StreamConfig};
use streams_client::names::StreamName;

use self::controller::TestController;
use self::proxy::Proxy;
use self::store::Store;

/// All that a client needs.
struct World {
    /// Of the controller.
    address: SocketAddr,
    proxy: Option<Proxy>,
    _tasks: [Task; 2],
}

impl World {
    async fn start() -> Result<Self> {
        let store = Store::new();
        let (store_address, storing) = store.listen().await?;
        let (_, address, controlling) = TestController::start(store, store_address, None)?;
        Ok(Self {
            address,
            proxy: None,
            _tasks: [storing, controlling],
        })
    }

    /// Connections to the store are cut after fewer than so many bytes.
    async fn cutting(store: Store, seed: u64, bytes_max: u64) -> Result<Self> {
        let (store_address, storing) = store.listen().await?;
        let proxy = Proxy::cutting(store_address, seed, bytes_max).await?;
        let (_, address, controlling) = TestController::start(store, proxy.address, None)?;
        Ok(Self {
            address,
            proxy: Some(proxy),
            _tasks: [storing, controlling],
        })
    }

    fn config(&self) -> Config {
        let mut config = Config::new(address(self.address, "tcp"));
        config.patience = Duration::from_secs(20);
        config
    }

    fn client(&self) -> Result<Client> {
        Ok(Client::new(self.config())?)
    }
}

fn address(of: SocketAddr, scheme: &str) -> Address {
    let text = format!("{scheme}://localhost:{}", of.port());
    text.parse().expect("it is one")
}

async fn create_stream(client: &Client, n_segments: i32) -> Result<StreamName> {
    let stream: StreamName = "scope/stream".parse()?;
    let config = StreamConfig {
        scaling: Scaling::Fixed { n_segments },
        ..StreamConfig::default()
    };
    client.controller().create_stream(&stream, &config).await?;
    Ok(stream)
}
