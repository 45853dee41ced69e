//! What the crate says that every store must do, and what is ours: keys, the other face, limits.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use object_store::integration;
use object_store::multipart::MultipartStore as _;
use object_store::{
    Attribute, Attributes, MultipartUpload as _, ObjectStoreExt as _, PutPayload, UpdateVersion,
};
use wal::testing::CrashDisk;

use super::*;
use crate::front::s3::tests::{World, world_with};
use crate::index::{Folder, Prefix};

const ARENA_BYTES: u64 = 256 << 20;

/// With the bucket `data` of `acme`.
async fn world() -> (World, Bucket) {
    let world = world_with(&CrashDisk::default(), ARENA_BYTES).await;
    world.acme.put("/data", b"").await.expect(200);
    let bucket = bucket(&world, "acme");
    (world, bucket)
}

fn bucket(world: &World, tenant: &str) -> Bucket {
    let tenant = tenant.parse().expect("a tenant");
    let name = BucketName::new("data").expect("a bucket");
    Bucket::new(Arc::clone(&world.face), tenant, name)
}

/// Of the functions of `object_store::integration` one is missing: `response_extensions`, which is there with the feature `reqwest` only, and asks
/// of an HTTP client whether it hands on what it is given.
mod judged {
    use super::*;

    #[tokio::test]
    async fn put_get_delete_list() {
        integration::put_get_delete_list(&world().await.1).await;
    }

    #[tokio::test]
    async fn put_get_attributes() {
        integration::put_get_attributes(&world().await.1).await;
    }

    #[tokio::test]
    async fn get_opts() {
        integration::get_opts(&world().await.1).await;
    }

    #[tokio::test]
    async fn put_opts() {
        integration::put_opts(&world().await.1, true).await;
    }

    #[tokio::test]
    async fn stream_get() {
        integration::stream_get(&world().await.1).await;
    }

    #[tokio::test]
    async fn list_uses_directories_correctly() {
        integration::list_uses_directories_correctly(&world().await.1).await;
    }

    #[tokio::test]
    async fn list_with_delimiter() {
        integration::list_with_delimiter(&world().await.1).await;
    }

    #[tokio::test]
    async fn get_nonexistent_object() {
        let bucket = world().await.1;
        for path in [None, Some(Path::from("a/b"))] {
            let error = integration::get_nonexistent_object(&bucket, path).await;
            let error = error.expect_err("it is not there");
            assert!(matches!(error, Error::NotFound { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn rename_and_copy() {
        integration::rename_and_copy(&world().await.1).await;
    }

    #[tokio::test]
    async fn copy_if_not_exists() {
        integration::copy_if_not_exists(&world().await.1).await;
    }

    #[tokio::test]
    async fn copy_rename_nonexistent_object() {
        integration::copy_rename_nonexistent_object(&world().await.1).await;
    }

    #[tokio::test]
    async fn multipart() {
        let bucket = world().await.1;
        integration::multipart(&bucket, &bucket).await;
    }

    #[tokio::test]
    async fn multipart_with_opts() {
        let bucket = world().await.1;
        integration::multipart_with_opts(&bucket, &bucket).await;
    }

    #[tokio::test]
    async fn multipart_put_part_out_of_order() {
        let bucket = world().await.1;
        integration::multipart_put_part_out_of_order(&bucket, &bucket).await;
    }

    #[tokio::test]
    async fn multipart_race_condition() {
        integration::multipart_race_condition(&world().await.1, true).await;
    }

    #[tokio::test]
    async fn multipart_out_of_order() {
        integration::multipart_out_of_order(&world().await.1).await;
    }

    #[tokio::test]
    async fn list_paginated() {
        let bucket = world().await.1;
        integration::list_paginated(&bucket, &bucket).await;
    }

    #[tokio::test]
    async fn list_with_offset_exclusivity() {
        integration::list_with_offset_exclusivity(&world().await.1).await;
    }
}

async fn listed(bucket: &Bucket, prefix: Option<&str>, after: Option<&str>) -> Vec<String> {
    let prefix = prefix.map(|prefix| Path::parse(prefix).expect("a path"));
    let metas = match after {
        None => bucket.list(prefix.as_ref()),
        Some(after) => {
            let after = Path::parse(after).expect("a path");
            bucket.list_with_offset(prefix.as_ref(), &after)
        }
    };
    let paths = metas.map_ok(|meta| meta.location.to_string());
    let mut paths: Vec<_> = paths.try_collect().await.expect("a list");
    paths.sort_unstable();
    paths
}

/// With objects of keys of which some are no paths. Each has its key as content.
async fn world_of_keys() -> (World, Bucket) {
    let (world, bucket) = world().await;
    for key in [
        "/",
        "a/",
        "a//b",
        "..",
        "a/b",
        "b",
        "!geds-key",
        "!geds-key/x",
    ] {
        let tenant = "acme".parse().expect("a tenant");
        let mut writer = world.store.writer(&tenant).expect("memory");
        writer.append(key.as_bytes()).expect("memory");
        let name = Name {
            bucket: bucket.0.bucket.clone(),
            key: Key::new(key).expect("a key"),
        };
        world
            .store
            .seal(&tenant, &name, (Class::Ephemeral, writer), Terms::default())
            .expect("sealed");
    }
    (world, bucket)
}

#[tokio::test]
async fn every_key_is_listed() {
    let (_world, bucket) = world_of_keys().await;
    let all = listed(&bucket, None, None).await;
    let others = [
        "!geds-key/!geds-key%2Fx",
        "!geds-key/%2E.",
        "!geds-key/%2F",
        "!geds-key/a%2F",
        "!geds-key/a%2F%2Fb",
    ];
    assert_eq!(all[0], "!geds-key");
    assert_eq!(all[1..6], others);
    assert_eq!(all[6..], ["a/b", "b"]);
    assert_eq!(listed(&bucket, Some("a"), None).await, ["a/b"]);
    assert_eq!(listed(&bucket, Some("!geds-key"), None).await, others);
    assert_eq!(
        listed(&bucket, Some("!geds-key"), Some(others[3])).await,
        [others[4]]
    );
    assert_eq!(
        listed(&bucket, None, Some(others[3])).await,
        [others[4], "a/b", "b"]
    );
    assert_eq!(listed(&bucket, None, Some("a")).await, ["a/b", "b"]);
    assert!(listed(&bucket, Some("!geds-key/a"), None).await.is_empty());

    let root = bucket.list_with_delimiter(None).await.expect("a list");
    let text = |path: &Path| path.to_string();
    let folders: Vec<_> = root.common_prefixes.iter().map(text).collect();
    assert_eq!(folders, ["!geds-key", "a"]);
    let objects: Vec<_> = root
        .objects
        .iter()
        .map(|meta| text(&meta.location))
        .collect();
    assert_eq!(objects, ["!geds-key", "b"]);
    let reserved = Path::parse("!geds-key").expect("a path");
    let level = bucket
        .list_with_delimiter(Some(&reserved))
        .await
        .expect("a list");
    assert_eq!((level.objects.len(), level.common_prefixes.len()), (5, 0));
}

#[tokio::test]
async fn every_key_can_be_had() {
    let (_world, bucket) = world_of_keys().await;
    for path in listed(&bucket, None, None).await {
        let path = Path::parse(path).expect("a path");
        let got = bucket.get(&path).await.expect("it is there");
        assert_eq!(got.meta.location, path);
        let bytes = got.bytes().await.expect("bytes");
        let key = paths::key_of(path.as_ref()).expect("a key");
        assert_eq!(bytes, key.as_bytes());
    }
    // They can be brought where other tools find them, and back.
    let [from, to] = ["!geds-key/a%2F%2Fb", "found"].map(|path| Path::parse(path).expect("a path"));
    bucket.rename(&from, &to).await.expect("renamed");
    bucket.copy(&to, &from).await.expect("copied");
    bucket.delete(&from).await.expect("deleted");
    let none = Path::parse("!geds-key/a").expect("a path");
    let error = bucket.put(&none, "a".into()).await.expect_err("no key");
    assert!(matches!(error, Error::NotSupported { .. }), "{error}");
    let error = bucket.get(&none).await.expect_err("no key");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    bucket.delete(&none).await.expect("nothing is there");
}

#[tokio::test]
async fn attributes_and_tags_are_those_of_s3() {
    let (world, bucket) = world().await;
    let path = Path::from("a");
    let attributes = Attributes::from_iter([
        (Attribute::ContentType, "text/plain"),
        (Attribute::CacheControl, "no-store"),
        (Attribute::Metadata("Who".into()), "me"),
    ]);
    let mut options = PutOptions::from(attributes);
    options.tags.push("kind", "a b");
    bucket
        .put_opts(&path, "abc".into(), options)
        .await
        .expect("put");
    let got = world.acme.get("/data/a").await.expect(200);
    assert_eq!(got.header("content-type"), Some("text/plain"));
    assert_eq!(got.header("cache-control"), Some("no-store"));
    assert_eq!(got.header("x-amz-meta-who"), Some("me"));
    assert_eq!(got.header("x-amz-tagging-count"), Some("1"));
    let meta = bucket.head(&path).await.expect("it is there");
    assert_eq!(got.header("etag"), meta.e_tag.as_deref());

    let headers = [("content-type", "image/png"), ("x-amz-meta-a", "1")];
    world
        .acme
        .send("PUT", "/data/b", &headers, b"abc")
        .await
        .expect(200);
    let path = Path::from("b");
    let got = bucket.get(&path).await.expect("it is there");
    let attributes = Attributes::from_iter([
        (Attribute::ContentType, "image/png"),
        (Attribute::Metadata("a".into()), "1"),
    ]);
    assert_eq!(got.attributes, attributes);
    // An etag of S3 is good for an update here.
    let update = PutMode::Update(UpdateVersion {
        e_tag: got.meta.e_tag,
        version: None,
    });
    bucket
        .put_opts(&path, "d".into(), update.into())
        .await
        .expect("put");
    let copy = Path::from("c");
    bucket.copy(&path, &copy).await.expect("copied");
    let got = world.acme.get("/data/c").await.expect(200);
    assert_eq!(got.body, b"d");
}

#[tokio::test]
async fn an_update_needs_an_etag_that_is_there() {
    let (_world, bucket) = world().await;
    let path = Path::from("a");
    let first = bucket.put(&path, "a".into()).await.expect("put");
    let update = |e_tag: Option<&str>, version: Option<&str>| {
        let update = PutMode::Update(UpdateVersion {
            e_tag: e_tag.map(str::to_owned),
            version: version.map(str::to_owned),
        });
        bucket.put_opts(&path, "b".into(), update.into())
    };
    let etag = first.e_tag.expect("an etag");
    for (e_tag, version) in [
        (Some("\"other\""), None),
        (Some("not one"), None),
        (Some(&*etag), Some("1")),
    ] {
        let error = update(e_tag, version).await.expect_err("it is another");
        assert!(matches!(error, Error::Precondition { .. }), "{error}");
    }
    update(None, None).await.expect_err("no etag");
    update(Some(etag.trim_matches('"')), None)
        .await
        .expect("it is the one");
}

#[tokio::test]
async fn content_is_handed_out_where_it_lies() {
    let (_world, bucket) = world().await;
    let path = Path::from("a");
    bucket
        .put(&path, vec![7; 100_000].into())
        .await
        .expect("put");
    let [one, other] = [
        bucket
            .get(&path)
            .await
            .expect("there")
            .bytes()
            .await
            .expect("bytes"),
        bucket.get_range(&path, 1..100_000).await.expect("bytes"),
    ];
    assert_eq!(one[1..].as_ptr(), other.as_ptr());
    bucket.delete(&path).await.expect("deleted");
    bucket
        .put(&path, vec![8; 100_000].into())
        .await
        .expect("put");
    assert!(one.iter().chain(&other).all(|byte| *byte == 7));
}

#[tokio::test]
async fn an_upload_is_over_once() {
    let (_world, bucket) = world().await;
    let path = Path::from("a");
    let mut upload = bucket.put_multipart(&path).await.expect("begun");
    let first = upload.put_part("a".into());
    upload.put_part("b".into()).await.expect("written");
    upload.complete().await.expect_err("a part is missing");
    first.await.expect("written");
    upload.complete().await.expect("all is there");
    upload.complete().await.expect_err("it is over");
    upload.abort().await.expect_err("it is over");
    upload.put_part("c".into()).await.expect_err("it is over");
    let got = bucket.get(&path).await.expect("there").bytes().await;
    assert_eq!(got.expect("bytes"), "ab");
}

#[tokio::test]
async fn data_with_many_names_is_copied() {
    let (world, bucket) = world().await;
    let path = Path::from("a");
    let attributes = Attributes::from_iter([(Attribute::ContentType, "text/plain")]);
    bucket
        .put_opts(&path, "abc".into(), attributes.into())
        .await
        .expect("put");
    let names_max = world
        .store
        .namespace()
        .read(|index| index.limits().names_max);
    for number in 0..names_max + 2 {
        let copy = Path::from(format!("copies/{number}"));
        bucket.copy(&path, &copy).await.expect("copied");
        let got = bucket.get(&copy).await.expect("there");
        assert_eq!(got.attributes.len(), 1);
        assert_eq!(got.bytes().await.expect("bytes"), "abc");
        let error = bucket
            .copy_if_not_exists(&path, &copy)
            .await
            .expect_err("there");
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    }
    let listed = listed(&bucket, Some("copies"), None).await;
    assert_eq!(listed.len(), names_max + 2);
}

#[tokio::test]
async fn other_tenants_have_nothing() {
    let (world, bucket) = world().await;
    let path = Path::from("a");
    bucket.put(&path, "a".into()).await.expect("put");
    let other = self::bucket(&world, "other");
    let is_denied =
        |error: Error| assert!(matches!(error, Error::PermissionDenied { .. }), "{error}");
    is_denied(other.get(&path).await.expect_err("denied"));
    is_denied(other.head(&path).await.expect_err("denied"));
    is_denied(other.put(&path, "b".into()).await.expect_err("denied"));
    is_denied(
        other
            .put_multipart(&path)
            .await
            .map(drop)
            .expect_err("denied"),
    );
    is_denied(
        other
            .copy(&path, &Path::from("b"))
            .await
            .expect_err("denied"),
    );
    is_denied(
        other
            .rename(&path, &Path::from("b"))
            .await
            .expect_err("denied"),
    );
    is_denied(other.delete(&path).await.expect_err("denied"));
    is_denied(
        other
            .list_with_delimiter(None)
            .await
            .map(drop)
            .expect_err("denied"),
    );
    let listed: Result<Vec<_>> = other.list(None).try_collect().await;
    is_denied(listed.expect_err("denied"));
    is_denied(other.create_multipart(&path).await.expect_err("denied"));
}

#[tokio::test]
async fn lists_go_on_over_pages() {
    let (world, bucket) = world().await;
    let names = (0..2500).map(|number| format!("many/{number:04}"));
    let paths: Vec<_> = names.collect();
    for path in &paths {
        bucket
            .put(&Path::from(&**path), PutPayload::new())
            .await
            .expect("put");
    }
    bucket
        .put(&Path::from("many/a/b"), PutPayload::new())
        .await
        .expect("put");
    assert_eq!(
        listed(&bucket, Some("many"), Some("many/1")).await[0],
        "many/1000"
    );
    assert_eq!(listed(&bucket, Some("many"), None).await.len(), 2501);
    let level = bucket
        .list_with_delimiter(Some(&Path::from("many")))
        .await
        .expect("a list");
    assert_eq!(
        (level.objects.len(), level.common_prefixes.len()),
        (2500, 1)
    );
    let folder = Folder {
        bucket: bucket.0.bucket.clone(),
        prefix: Prefix::new("many/").expect("a prefix"),
    };
    let acme = "acme".parse().expect("a tenant");
    let mut pages = bucket.list(None);
    pages.try_next().await.expect("a page").expect("an object");
    // What is listed is as it was when the list began.
    world.store.delete_prefix(&acme, &folder).expect("deleted");
    let rest: Vec<_> = pages.try_collect().await.expect("pages");
    assert_eq!(rest.len(), 2500);
    assert!(listed(&bucket, None, None).await.is_empty());
}

#[tokio::test]
async fn an_answer_says_what_it_promises() {
    let (world, durable) = world().await;
    let (face, tenant) = (Arc::clone(&world.face), durable.0.tenant.clone());
    let ephemeral = Bucket::of_class(face, tenant, durable.0.bucket.clone(), Class::Ephemeral);
    let path = Path::from("a");
    for (bucket, class) in [
        (&durable, ::store::Class::Durable),
        (&ephemeral, ::store::Class::Ephemeral),
    ] {
        for size in [10, 1 << 20] {
            let put = bucket.put(&path, vec![1; size].into()).await.expect("put");
            assert_eq!(put.extensions.get(), Some(&class));
            let got = bucket.get(&path).await.expect("there");
            assert_eq!(got.extensions.get(), Some(&class));
            let mut upload = bucket.put_multipart(&path).await.expect("begun");
            upload.put_part(vec![1; size].into()).await.expect("put");
            let put = upload.complete().await.expect("completed");
            assert_eq!(put.extensions.get(), Some(&class));
        }
    }
}

/// Memory has room for a small part of it.
#[tokio::test]
async fn what_is_on_the_disk_is_read_from_there() {
    let world = world_with(&CrashDisk::default(), 20 << 20).await;
    world.acme.put("/data", b"").await.expect(200);
    let bucket = bucket(&world, "acme");
    let content = |number: u8| (0..3_000_000_u32).map(move |at| number ^ at.to_le_bytes()[1]);
    for number in 0..20 {
        let path = Path::from(format!("{number:02}"));
        let payload: Vec<u8> = content(number).collect();
        bucket
            .put(&path, payload.into())
            .await
            .expect("there is room on the disk");
    }
    let mut n_on_disk = 0;
    for number in 0..20 {
        let path = Path::from(format!("{number:02}"));
        let name = bucket.place(&path).expect("a key");
        let reader = world
            .store
            .open_object(&bucket.0.tenant, &name)
            .expect("there");
        n_on_disk += usize::from(!reader.is_in_memory());
        let all = bucket
            .get(&path)
            .await
            .expect("there")
            .bytes()
            .await
            .expect("bytes");
        let all: Vec<u8> = all.into();
        assert!(all.into_iter().eq(content(number)), "{number}");
        let range = 1_000_000..2_500_000;
        let part = bucket.get_ranges(&path, &[range]).await.expect("there");
        let expected = content(number).skip(1_000_000).take(1_500_000);
        assert!(part[0].iter().copied().eq(expected), "{number}");
    }
    assert!(n_on_disk > 5, "{n_on_disk}");
}

#[tokio::test]
async fn buckets_have_urls() {
    let (world, bucket) = world().await;
    let registry = ::store::Registry::default();
    let buckets = Buckets::new(Arc::clone(&world.face), bucket.0.tenant.clone());
    registry
        .register("geds", Arc::new(buckets))
        .expect("it is new");
    let opened = registry.open("geds://data/a/b").expect("it opens");
    opened
        .store
        .put(&Path::from("c"), "abc".into())
        .await
        .expect("put");
    bucket
        .head(&Path::from("a/b/c"))
        .await
        .expect("it is there");
    let none = registry.open("geds://none").expect("it need not be there");
    let error = none.store.put(&Path::from("c"), "abc".into()).await;
    let error = error.expect_err("there is no such bucket");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    registry.open("geds://x").expect_err("it cannot be there");
}
