//! A controller without sites, for those who test its north-bound interface from outside (conformance/schemathesis).
//!
//! `nbi_server DIR` keeps its state in DIR, writes DIR/ca.pem, and prints `{"url", "token", "ca"}` as one line. It runs until its standard
//! input ends.
#![allow(clippy::print_stdout, reason = "it is what this program does")]

use std::error::Error;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ids::Name;
use orchestrator::{Config, Controller, Deps, Role, Terms};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os()
        .nth(1)
        .ok_or("say where to keep its state")?;
    let dir = PathBuf::from(dir);
    std::fs::create_dir_all(&dir)?;
    let authority = auth::Authority::new()?;
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, auth::pem(authority.certificate()))?;
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = Config {
        dir: dir.join("controller"),
        link: any_port,
        nbi: any_port,
    };
    let deps = Deps {
        authority,
        explainer: None,
        metrics: telemetry::Metrics::new(),
        store: None,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let service = orchestrator::start(config, deps).await?;
        let token = auth::Secret::random();
        let org = "acme".parse()?;
        let controller = &service.controller;
        controller
            .add_token(&token.hash(), &org, Role::Operator)
            .await?;
        seed(&service.controller, &org).await?;
        let ready = serde_json::json!({
            "url": format!("https://localhost:{}", service.nbi.port()), "token": token.as_str(), "ca": ca,
        });
        println!("{ready}");
        let (ended, end) = tokio::sync::oneshot::channel();
        let wait = move || ended.send(std::io::stdin().read_to_end(&mut Vec::new()));
        rt::thread("end".to_owned(), 64 << 10, wait)?;
        end.await??;
        Ok(())
    })
}

/// Something to look at: a service `video` that waits for a site.
async fn seed(controller: &Controller, org: &Name) -> Result<(), Box<dyn Error>> {
    let digest = "93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476".parse()?;
    let mut upload = controller.put_module(org, &digest).await?;
    upload.write(b"\0asm\x01\0\0\0".as_slice().into()).await?;
    upload.finish().await?;
    let service = serde_json::json!({
        "apiVersion": nbi::API_VERSION, "kind": "Service", "metadata": {"name": "video"},
        "spec": {"blocks": [{
            "name": "main", "kind": "CellDeployment", "module": format!("sha256:{digest}"), "ranks": 2,
        }]},
    });
    let service = nbi::parse(service.to_string().as_bytes()).map_err(|problem| problem.detail)?;
    controller
        .apply_service(org, &service, &Terms::default())
        .await?;
    Ok(())
}
