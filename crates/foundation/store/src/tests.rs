//! All stores by URL, under the contract of the crate `object_store` and ours: directories, memory, and S3 over real HTTP.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ::s3::users::{User, Users};
use ::s3::{Memory, Service, Setup};
use futures_util::TryStreamExt as _;
use object_store::integration;
use object_store::path::Path;
use object_store::{
    Error as StoreError, ObjectStoreExt as _, PutMode, PutMultipartOptions, UpdateVersion,
};
use tokio::net::TcpListener;

use crate::s3::{Config, Counters, Limits};
use crate::*;

const SECRET: &str = "the secret of the test";

struct World {
    registry: Registry,
    s3: S3,
    _service: Service,
    _directory: tempfile::TempDir,
    directory: String,
}

async fn serve(tls: Option<Arc<rustls::ServerConfig>>) -> Service {
    let backend = Memory::new();
    let tenant = ::s3::names::Tenant::new("one").expect("a tenant");
    let bucket = ::s3::names::BucketName::new("data").expect("a bucket");
    let made = ::s3::Backend::create_bucket(&backend, &bucket, &tenant).await;
    made.expect("there is none");
    let user = User {
        access_key: "KEY".to_owned(),
        secret: ::s3::users::Secret::new(SECRET.to_owned()),
        tenant,
    };
    let setup = Setup {
        config: ::s3::Config::default(),
        users: Users::new([user]),
        backend: Arc::new(backend),
        tls,
        counters: ::s3::Counters::new(&telemetry::Metrics::new()),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    ::s3::serve(listener.expect("a port"), setup).expect("it serves")
}

fn config(endpoint: &str, authorities: Option<Vec<u8>>) -> Config {
    Config {
        endpoint: Some(endpoint.parse().expect("a URL")),
        region: "us-east-1".to_owned(),
        credentials: Credentials {
            access_key: "KEY".to_owned(),
            secret: Secret::new(SECRET),
            token: None,
        },
        authorities,
        limits: Limits::default(),
    }
}

fn endpoint_of(config: Config) -> Result<S3> {
    S3::new(config, Counters::new(&telemetry::Metrics::new()))
}

async fn world() -> World {
    let service = serve(None).await;
    let s3 = endpoint_of(config(&format!("http://{}", service.addr), None)).expect("it opens");
    let registry = Registry::default();
    registry
        .register("s3", Arc::new(s3.clone()))
        .expect("it is new");
    let directory = tempfile::tempdir().expect("a directory");
    World {
        registry,
        s3,
        _service: service,
        directory: format!("file://{}", directory.path().display()),
        _directory: directory,
    }
}

/// Which stores can replace what has an etag, and keep attributes.
async fn contract(opened: &Opened, can_update: bool) {
    let store = &*opened.store;
    integration::put_get_delete_list(store).await;
    integration::put_get_attributes(store).await;
    integration::get_opts(store).await;
    integration::put_opts(store, can_update).await;
    let fixtures = store.list(None);
    let fixtures: Vec<_> = fixtures.try_collect().await.expect("a list");
    for fixture in fixtures {
        store.delete(&fixture.location).await.expect("deleted");
    }
    integration::stream_get(store).await;
    integration::list_uses_directories_correctly(store).await;
    integration::list_with_delimiter(store).await;
    integration::rename_and_copy(store).await;
    integration::copy_if_not_exists(store).await;
    integration::copy_rename_nonexistent_object(store).await;
    integration::multipart_out_of_order(store).await;
    integration::list_with_offset_exclusivity(store).await;
    let error = integration::get_nonexistent_object(store, None).await;
    assert!(
        matches!(error, Err(StoreError::NotFound { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_directory_is_a_store() {
    let world = world().await;
    let opened = world.registry.open(&world.directory).expect("it opens");
    assert_eq!(opened.class, Class::Durable);
    contract(&opened, false).await;
}

#[tokio::test]
async fn memory_is_a_store() {
    let world = world().await;
    let opened = world
        .registry
        .open("memory://test/a%20b")
        .expect("it opens");
    assert_eq!(opened.class, Class::Ephemeral);
    contract(&opened, true).await;
    opened
        .store
        .put(&Path::from("x"), "1".into())
        .await
        .expect("put");
    let root = world.registry.open("memory://test").expect("it opens");
    root.store
        .head(&Path::from("a b/x"))
        .await
        .expect("it is there");
    let other = world.registry.open("memory://other").expect("it opens");
    other
        .store
        .head(&Path::from("a b/x"))
        .await
        .expect_err("another store");
}

#[tokio::test]
async fn a_bucket_of_s3_is_a_store() {
    let world = world().await;
    let opened = world.registry.open("s3://data/a/b").expect("it opens");
    assert_eq!(opened.class, Class::Durable);
    contract(&opened, true).await;
    let put = opened
        .store
        .put(&Path::from("x"), "1".into())
        .await
        .expect("put");
    // It says so itself: what is behind this server is memory.
    assert_eq!(Class::of(&put.extensions, opened.class), Class::Ephemeral);
    world
        .s3
        .bucket("data")
        .expect("a bucket")
        .objects()
        .head(&Path::from("a/b/x"))
        .await
        .expect("it is there");
}

#[tokio::test]
async fn s3_is_spoken_over_tls() {
    let authority = auth::Authority::new().expect("an authority");
    let identity = authority.identity("localhost").expect("an identity");
    let tls = auth::Tls::new(&identity)
        .expect("TLS")
        .server_config_admitting_anonymous();
    let service = serve(Some(tls)).await;
    let endpoint = format!("https://localhost:{}", service.addr.port());
    let pem = auth::pem(authority.certificate()).into_bytes();
    let path = Path::from("a");
    let s3 = endpoint_of(config(&endpoint, Some(pem))).expect("it opens");
    let bucket = s3.bucket("data").expect("a bucket");
    bucket
        .objects()
        .put(&path, "abc".into())
        .await
        .expect("put");
    let other = auth::Authority::new().expect("an authority");
    let mut config = config(&endpoint, Some(auth::pem(other.certificate()).into_bytes()));
    config.limits.retries = 0;
    let s3 = endpoint_of(config).expect("it opens");
    let bucket = s3.bucket("data").expect("a bucket");
    bucket
        .objects()
        .get(&path)
        .await
        .expect_err("somebody else's certificate");
}

#[tokio::test]
async fn the_end_of_an_upload_is_conditional() {
    let world = world().await;
    let bucket = world.s3.bucket("data").expect("a bucket");
    let path = Path::from("a");
    let upload = async |mode: &PutMode, text: &'static str| {
        let upload = bucket
            .upload(&path, PutMultipartOptions::default())
            .await
            .expect("begun");
        let part = upload.put(0, text.into()).await.expect("put");
        let completed = upload.complete(vec![part], mode).await;
        if completed.is_err() {
            upload.abort().await.expect("it goes on");
        }
        completed
    };
    let first = upload(&PutMode::Create, "1").await.expect("there is none");
    let error = upload(&PutMode::Create, "2")
        .await
        .expect_err("there is one");
    assert!(matches!(error, StoreError::AlreadyExists { .. }), "{error}");
    let update = PutMode::Update(UpdateVersion::from(first));
    upload(&update, "3").await.expect("it is the one");
    let error = upload(&update, "4").await.expect_err("it is another");
    assert!(matches!(error, StoreError::Precondition { .. }), "{error}");
    upload(&PutMode::Overwrite, "5")
        .await
        .expect("whatever is there");
    bucket.objects().delete(&path).await.expect("deleted");
    let error = upload(&update, "6").await.expect_err("there is none");
    assert!(matches!(error, StoreError::Precondition { .. }), "{error}");
}

#[tokio::test]
async fn no_url_holds_a_secret() {
    let world = world().await;
    for url in [
        "s3://KEY:hunter2@data/a",
        "s3://hunter2@data/a",
        "s3://data/a?X-Amz-Signature=hunter2",
        "s3://data/a#hunter2",
        "geds://KEY:hunter2@data/a",
        "hunter2",
    ] {
        let error = world.registry.open(url).expect_err(url);
        let mut text = format!("{error:?} {error}");
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text += &error.to_string();
            source = error.source();
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
    for url in [
        "ftp://a",
        "file://host/a",
        "file:///is/not/there",
        "s3://",
        "s3://A B",
    ] {
        world.registry.open(url).expect_err(url);
    }
    let s3: Arc<dyn Scheme> = Arc::new(world.s3.clone());
    world.registry.register("s3", s3).expect_err("it is there");
    let bucket = world.s3.bucket("data").expect("a bucket");
    for text in [
        format!("{:?}", world.s3),
        format!("{bucket:?}"),
        format!("{:?}", world.registry),
    ] {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn endpoints_are_checked() {
    for url in [
        "ftp://host",
        "http://host/path",
        "http://a:b@host",
        "http://host?a",
        "data:a",
    ] {
        endpoint_of(config(url, None)).expect_err(url);
    }
    let pem = Some(b"none".to_vec());
    endpoint_of(config("https://host", pem)).expect_err("no certificates");
}
