//! What every [`Backend`] must do, as a function that its tests call. It panics at the first thing that is not so.

use std::collections::BTreeSet;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;

use crate::Chunks;
use crate::backend::{
    Backend, Complete, Deletion, Error, ListFrom, ListItem, ListQuery, NewUpload, Put,
};
use crate::body::Body;
use crate::checksum::{Algorithm, Checksum, Coverage, Hasher, ObjectChecksum};
use crate::front::common_prefix;
use crate::names::{BucketName, Etag, Key, Name, PartNumber, Tenant, Upload, UploadId};
use crate::object::{Attributes, Class, Object, Part, Precondition, Tags, UploadChecksum};

/// Runs the contract. The store must have no bucket of the tenant `contract`, and has none afterwards.
///
/// # Panics
/// When the store does not keep it.
pub async fn contract(backend: &dyn Backend) {
    let contract = Contract {
        backend,
        bucket: BucketName::new("contract-one").expect("a name"),
        owner: Tenant::new("contract").expect("a name"),
    };
    contract.buckets().await;
    let done = backend
        .create_bucket(&contract.bucket, &contract.owner)
        .await;
    done.expect("create a bucket");
    contract.objects().await;
    contract.failures().await;
    contract.reads().await;
    contract.preconditions().await;
    contract.copies().await;
    contract.lists().await;
    contract.uploads().await;
    contract.changed_uploads().await;
    contract.upload_lists().await;
    backend
        .delete_bucket(&contract.bucket)
        .await
        .expect("delete a bucket without objects");
}

struct Contract<'a> {
    backend: &'a dyn Backend,
    bucket: BucketName,
    owner: Tenant,
}

fn key(text: &str) -> Key {
    Key::new(text).expect("a key")
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Tags::new(pairs.collect(), 10).expect("tags")
}

fn body(content: &[u8]) -> Body {
    let pieces = content.chunks(3).map(Bytes::copy_from_slice);
    let pieces = Chunks::memory(pieces.collect::<Vec<_>>());
    Body::inside(pieces, content.len() as u64, None)
}

/// A body that fails behind this content.
fn broken_body(content: &'static [u8]) -> Body {
    struct Broken(Option<&'static [u8]>);
    impl Stream for Broken {
        type Item = Result<Bytes, Error>;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            let piece = self.0.take().map(|content| Ok(Bytes::from_static(content)));
            let failure = Error::Unavailable("the source of the body".to_owned());
            Poll::Ready(Some(piece.unwrap_or(Err(failure))))
        }
    }
    let pieces = Chunks::stream(Broken(Some(content)));
    Body::inside(pieces, content.len() as u64 + 1, None)
}

impl Contract<'_> {
    fn name(&self, text: &str) -> Name {
        Name {
            bucket: self.bucket.clone(),
            key: key(text),
        }
    }

    fn new_put(&self, text: &str) -> Put {
        Put {
            name: self.name(text),
            attributes: Attributes::default(),
            tags: Tags::default(),
            when: Precondition::None,
            class: Class::Durable,
        }
    }

    async fn put(&self, text: &str, content: &[u8]) -> Object {
        let object = self.backend.put(self.new_put(text), body(content)).await;
        object.expect("put an object")
    }

    async fn read(&self, text: &str, range: Option<Range<u64>>) -> Vec<u8> {
        let opened = self.backend.open(&self.name(text)).await;
        let (object, content) = opened.expect("open an object");
        all(content.read(range.unwrap_or(0..object.size))).await
    }

    async fn delete(&self, keys: &[&str]) {
        let deletions = keys.iter().map(|text| Deletion {
            key: key(text),
            when: Precondition::None,
        });
        let results = self.backend.delete(&self.bucket, deletions.collect()).await;
        assert_eq!(results.len(), keys.len());
        for result in results {
            result.expect("delete an object");
        }
    }

    async fn is_there(&self, text: &str) -> bool {
        match self.backend.head(&self.name(text)).await {
            Ok(_) => true,
            Err(Error::NoSuchKey) => false,
            Err(error) => panic!("{error}"),
        }
    }

    async fn buckets(&self) {
        let backend = self.backend;
        let others =
            ["contract-two", "contract-twelve"].map(|name| BucketName::new(name).expect("a name"));
        let missing = backend.bucket(&self.bucket).await;
        assert!(matches!(missing, Err(Error::NoSuchBucket)), "{missing:?}");
        let missing = backend.delete_bucket(&self.bucket).await;
        assert!(matches!(missing, Err(Error::NoSuchBucket)), "{missing:?}");
        for bucket in [&self.bucket, &others[0], &others[1]] {
            let made = backend.create_bucket(bucket, &self.owner).await;
            made.expect("create a bucket");
        }
        let stranger = Tenant::new("stranger").expect("a name");
        for owner in [&self.owner, &stranger] {
            let again = backend.create_bucket(&self.bucket, owner).await;
            assert!(matches!(again, Err(Error::BucketExists)), "{again:?}");
        }
        let bucket = backend.bucket(&self.bucket).await.expect("find a bucket");
        assert_eq!((&bucket.name, &bucket.owner), (&self.bucket, &self.owner));
        backend
            .tag_bucket(&self.bucket, tags(&[("a", "b")]))
            .await
            .expect("tag a bucket");
        let bucket = backend.bucket(&self.bucket).await.expect("find a bucket");
        assert_eq!(bucket.tags, tags(&[("a", "b")]));
        let listed = async |owner, prefix: &str, after: &str, buckets_max| {
            let buckets = backend.buckets(owner, prefix, after, buckets_max).await;
            let buckets = buckets.expect("list buckets").into_iter();
            buckets
                .map(|bucket| bucket.name.to_string())
                .collect::<Vec<_>>()
        };
        let (one, twelve, two) = ("contract-one", "contract-twelve", "contract-two");
        assert_eq!(
            listed(&self.owner, "", "", usize::MAX).await,
            [one, twelve, two]
        );
        assert_eq!(listed(&self.owner, "", "", 2).await, [one, twelve]);
        assert_eq!(listed(&self.owner, "", one, 2).await, [twelve, two]);
        assert_eq!(
            listed(&self.owner, "contract-tw", "", 9).await,
            [twelve, two]
        );
        assert!(listed(&stranger, "", "", 9).await.is_empty());
        for bucket in [&self.bucket, &others[0], &others[1]] {
            backend
                .delete_bucket(bucket)
                .await
                .expect("delete a bucket");
        }
    }

    async fn objects(&self) {
        let backend = self.backend;
        let missing = backend.head(&self.name("a")).await;
        assert!(matches!(missing, Err(Error::NoSuchKey)), "{missing:?}");
        let missing = backend
            .open(&self.name("a"))
            .await
            .map(|(object, _)| object);
        assert!(matches!(missing, Err(Error::NoSuchKey)), "{missing:?}");
        let missing = backend.tag(&self.name("a"), Tags::default()).await;
        assert!(matches!(missing, Err(Error::NoSuchKey)), "{missing:?}");
        let nowhere = Name {
            bucket: BucketName::new("contract-none").expect("a name"),
            key: key("a"),
        };
        let put = Put {
            name: nowhere,
            ..self.new_put("a")
        };
        let missing = backend.put(put, body(b"a")).await;
        assert!(matches!(missing, Err(Error::NoSuchBucket)), "{missing:?}");

        let mut put = self.new_put("a");
        put.attributes.content_type = Some("text/plain".to_owned());
        put.attributes.user = [("who".to_owned(), "me".to_owned())].into();
        put.tags = tags(&[("x", "y")]);
        let wanted = put.attributes.clone();
        let written = backend
            .put(put, body(b"content"))
            .await
            .expect("put an object");
        let found = backend.head(&self.name("a")).await.expect("find an object");
        assert_eq!(
            written, found,
            "what is told of a write is what was written"
        );
        assert_eq!((found.size, &found.attributes), (7, &wanted));
        assert_eq!(found.tags, tags(&[("x", "y")]));
        let value = Hasher::of(Algorithm::Crc64Nvme, b"content");
        let coverage = Coverage::Whole;
        assert_eq!(found.checksum, Some(ObjectChecksum { value, coverage }));
        assert!(found.parts.is_empty());
        assert_eq!(self.read("a", None).await, b"content");

        let tagged = backend.tag(&self.name("a"), tags(&[("z", "")])).await;
        tagged.expect("tag an object");
        let found = backend.head(&self.name("a")).await.expect("find an object");
        assert_eq!(found.tags, tags(&[("z", "")]));
        assert_eq!((&found.etag, &found.attributes), (&written.etag, &wanted));

        let other = self.put("a", b"other").await;
        assert_ne!(other.etag, written.etag, "other content has another etag");
        assert_eq!(
            other.attributes,
            Attributes::default(),
            "nothing is left of what was replaced"
        );
        assert_eq!(other.tags, Tags::default());
        let refused = backend.delete_bucket(&self.bucket).await;
        assert!(matches!(refused, Err(Error::BucketNotEmpty)), "{refused:?}");
        self.delete(&["a", "never"]).await;
        assert!(!self.is_there("a").await);
    }

    /// Bodies that end badly leave everything as it was.
    async fn failures(&self) {
        let first = self.put("kept", b"first").await;
        for name in ["kept", "new"] {
            let failed = self
                .backend
                .put(self.new_put(name), broken_body(b"second"))
                .await;
            assert!(matches!(failed, Err(Error::Body(_))), "{failed:?}");
        }
        let found = self.backend.head(&self.name("kept")).await;
        assert_eq!(found.expect("find an object"), first);
        assert_eq!(self.read("kept", None).await, b"first");
        assert!(!self.is_there("new").await);
        self.delete(&["kept"]).await;
    }

    async fn reads(&self) {
        let content: Vec<u8> = (0..=255).collect();
        self.put("r", &content).await;
        for range in [0..256, 0..1, 255..256, 3..6, 4..5, 2..200, 7..7] {
            let (start, end) = (usize::try_from(range.start), usize::try_from(range.end));
            let wanted = &content[start.expect("small")..end.expect("small")];
            assert_eq!(
                self.read("r", Some(range.clone())).await,
                wanted,
                "{range:?}"
            );
        }
        self.put("empty", b"").await;
        assert_eq!(self.read("empty", None).await, b"");
        let opened = self.backend.open(&self.name("r")).await;
        let (object, held) = opened.expect("open an object");
        self.put("r", b"replaced").await;
        self.delete(&["r", "empty"]).await;
        assert_eq!(
            all(held.read(0..object.size)).await,
            content,
            "what was opened stays"
        );
    }

    async fn preconditions(&self) {
        let backend = self.backend;
        let put_when = async |when: Precondition, content: &[u8]| {
            let put = Put {
                when,
                ..self.new_put("p")
            };
            backend.put(put, body(content)).await
        };
        let unknown = Etag::new("unknown").expect("an etag");
        for when in [Precondition::Present, Precondition::Is(unknown.clone())] {
            let refused = put_when(when, b"0").await;
            assert!(matches!(refused, Err(Error::NoSuchKey)), "{refused:?}");
        }
        let first = put_when(Precondition::Absent, b"1")
            .await
            .expect("nothing is there");
        for when in [
            Precondition::Absent,
            Precondition::Is(unknown.clone()),
            Precondition::IsNot(first.etag.clone()),
        ] {
            let refused = put_when(when, b"2").await;
            assert!(matches!(refused, Err(Error::Precondition)), "{refused:?}");
        }
        assert_eq!(self.read("p", None).await, b"1");
        for (when, content) in [
            (Precondition::Is(first.etag), b"3"),
            (Precondition::IsNot(unknown.clone()), b"4"),
            (Precondition::Present, b"5"),
        ] {
            put_when(when, content)
                .await
                .expect("it is as it should be");
        }
        let deletion = |text: &str, when| Deletion {
            key: key(text),
            when,
        };
        let results = backend
            .delete(
                &self.bucket,
                vec![
                    deletion("p", Precondition::Is(unknown)),
                    deletion("q", Precondition::Present),
                    deletion("q", Precondition::None),
                ],
            )
            .await;
        let told = results.iter().map(Result::as_ref).collect::<Vec<_>>();
        assert!(
            matches!(
                told[..],
                [Err(Error::Precondition), Err(Error::NoSuchKey), Ok(())]
            ),
            "{told:?}"
        );
        assert_eq!(self.read("p", None).await, b"5");
        self.delete(&["p"]).await;
        let (a, b) = tokio::join!(
            put_when(Precondition::Absent, b"a"),
            put_when(Precondition::Absent, b"b"),
        );
        assert!(
            a.is_ok() != b.is_ok(),
            "one of two comes first: {a:?} {b:?}"
        );
        self.delete(&["p"]).await;
    }

    async fn copies(&self) {
        let backend = self.backend;
        let from = self.name("from");
        let etag = Etag::new("unknown").expect("an etag");
        let missing = backend.copy(&from, &etag, self.new_put("to")).await;
        assert!(matches!(missing, Err(Error::NoSuchKey)), "{missing:?}");
        let source = self.put("from", b"copied").await;
        let changed = backend.copy(&from, &etag, self.new_put("to")).await;
        assert!(matches!(changed, Err(Error::Changed)), "{changed:?}");
        let mut put = self.new_put("to");
        put.tags = tags(&[("copy", "1")]);
        put.when = Precondition::Absent;
        let copied = backend.copy(&from, &source.etag, put.clone()).await;
        let copied = copied.expect("copy an object");
        assert_eq!(copied.tags, put.tags);
        assert_eq!((copied.size, &copied.checksum), (6, &source.checksum));
        let refused = backend.copy(&from, &source.etag, put).await;
        assert!(matches!(refused, Err(Error::Precondition)), "{refused:?}");
        let mut onto = self.new_put("from");
        onto.attributes.content_type = Some("text/plain".to_owned());
        let onto = backend.copy(&from, &source.etag, onto).await;
        let onto = onto.expect("copy an object onto itself");
        assert_eq!(onto.attributes.content_type.as_deref(), Some("text/plain"));
        self.delete(&["from"]).await;
        assert_eq!(self.read("to", None).await, b"copied");
        self.delete(&["to"]).await;
    }

    async fn lists(&self) {
        const KEYS: [&str; 16] = [
            "a",
            "a/",
            "a//b",
            "a/b",
            "a/b/c",
            "a/é",
            "a0",
            "ab",
            "b//",
            "b//c",
            "é/1",
            "é/2",
            "z\u{10ffff}",
            "z\u{10ffff}y",
            "~",
            "\u{1}",
        ];
        for text in KEYS {
            self.put(text, text.as_bytes()).await;
        }
        for prefix in ["", "a", "a/", "b//", "é", "none", "z\u{10ffff}"] {
            for delimiter in ["", "/", "//", "b", "\u{10ffff}"] {
                let starts = [
                    ListFrom::Start,
                    ListFrom::After("a/"),
                    ListFrom::After("a/a"),
                    ListFrom::After("zzz"),
                    ListFrom::AfterPrefix("a/"),
                    ListFrom::AfterPrefix("z\u{10ffff}"),
                ];
                for from in starts {
                    let wanted = model(&KEYS, prefix, delimiter, from);
                    for items_max in [1, 2, 5, 100] {
                        let query = ListQuery {
                            prefix,
                            delimiter,
                            from,
                            items_max,
                        };
                        let found = self.pages(query).await;
                        assert_eq!(found, wanted, "{query:?}");
                    }
                }
            }
        }
        let query = ListQuery {
            prefix: "",
            delimiter: "",
            from: ListFrom::Cursor("\u{7f} none"),
            items_max: 1,
        };
        let refused = self.backend.list(&self.bucket, query).await;
        assert!(matches!(refused, Err(Error::Cursor)), "{refused:?}");
        self.delete(&KEYS).await;
    }

    async fn pages(&self, query: ListQuery<'_>) -> Vec<String> {
        let mut found = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let query = ListQuery {
                from: cursor.as_deref().map_or(query.from, ListFrom::Cursor),
                ..query
            };
            let page = self.backend.list(&self.bucket, query).await;
            let page = page.expect("list objects");
            assert!(page.items.len() <= query.items_max);
            assert!(
                !page.items.is_empty() || page.next.is_none(),
                "a page goes on"
            );
            found.extend(page.items.into_iter().map(|item| match item {
                ListItem::Object(listed) => {
                    assert_eq!(listed.size, listed.key.as_str().len() as u64);
                    listed.key.to_string()
                }
                ListItem::Prefix(prefix) => format!("{prefix}…"),
            }));
            match page.next {
                Some(next) => cursor = Some(next),
                None => return found,
            }
        }
    }

    async fn begin(&self, text: &str) -> Upload {
        let new = NewUpload {
            name: self.name(text),
            attributes: Attributes {
                content_type: Some("text/plain".to_owned()),
                ..Attributes::default()
            },
            tags: tags(&[("u", "1")]),
            checksum: UploadChecksum {
                algorithm: Algorithm::Crc64Nvme,
                coverage: Coverage::Whole,
                is_asked: true,
            },
        };
        let upload = self.backend.create_upload(new).await;
        upload.expect("begin an upload")
    }

    async fn part(&self, upload: &Upload, number: i32, content: &[u8]) -> Part {
        let number = PartNumber::new(number).expect("a number");
        let part = self.backend.put_part(upload, number, body(content)).await;
        part.expect("put a part")
    }

    fn completed(upload: &Upload, parts: &[&Part]) -> Complete {
        Complete {
            upload: upload.clone(),
            parts: parts.iter().map(|part| (*part).clone()).collect(),
            size: parts.iter().map(|part| part.size).sum(),
            etag: Etag::new("whole-2").expect("an etag"),
            checksum: Some(ObjectChecksum {
                value: Checksum::Crc64Nvme([7; 8]),
                coverage: Coverage::Whole,
            }),
            when: Precondition::None,
        }
    }

    async fn uploads(&self) {
        let backend = self.backend;
        let upload = self.begin("u").await;
        let uploading = backend.upload(&upload).await.expect("find an upload");
        assert_eq!(uploading.upload, upload);
        assert_eq!(uploading.checksum.algorithm, Algorithm::Crc64Nvme);
        let third = self.part(&upload, 300, b"third").await;
        let first = self.part(&upload, 1, b"first").await;
        self.part(&upload, 20, b"not used").await;
        let again = self.part(&upload, 300, b"thirds").await;
        assert_ne!((third.md5, third.size), (again.md5, again.size));
        assert_eq!(again.checksum, Hasher::of(Algorithm::Crc64Nvme, b"thirds"));
        let failed = backend
            .put_part(&upload, first.number, broken_body(b"worse"))
            .await;
        assert!(matches!(failed, Err(Error::Body(_))), "{failed:?}");
        let numbers = async |after, parts_max| {
            let parts = backend.parts(&upload, after, parts_max).await;
            let parts = parts.expect("list parts").into_iter();
            parts
                .map(|part| (part.number.get(), part.size))
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers(0, 10).await, [(1, 5), (20, 8), (300, 6)]);
        assert_eq!(numbers(0, 1).await, [(1, 5)]);
        assert_eq!(numbers(1, 10).await, [(20, 8), (300, 6)]);
        assert!(!self.is_there("u").await, "an upload is no object");

        let complete = Self::completed(&upload, &[&first, &again]);
        let object = backend.complete(complete.clone()).await;
        let object = object.expect("complete an upload");
        assert_eq!(
            object,
            backend.head(&self.name("u")).await.expect("find an object")
        );
        assert_eq!(self.read("u", None).await, b"firstthirds");
        assert_eq!(
            (&object.etag, &object.checksum),
            (&complete.etag, &complete.checksum)
        );
        assert_eq!(*object.parts, complete.parts[..]);
        assert_eq!(object.upload.as_ref(), Some(&upload.id));
        assert_eq!(
            object.attributes.content_type.as_deref(),
            Some("text/plain")
        );
        assert_eq!(object.tags, tags(&[("u", "1")]));
        assert_eq!(self.read("u", Some(4..6)).await, b"tt");
        self.gone(&upload, &first, complete).await;
        self.delete(&["u"]).await;
    }

    /// There is no such upload any more.
    async fn gone(&self, upload: &Upload, part: &Part, complete: Complete) {
        let backend = self.backend;
        let other = Upload {
            name: upload.name.clone(),
            id: UploadId::new("never").expect("an id"),
        };
        for upload in [upload, &other] {
            let complete = Complete {
                upload: upload.clone(),
                ..complete.clone()
            };
            let results = [
                backend.upload(upload).await.map(|_| ()),
                backend.parts(upload, 0, 1).await.map(|_| ()),
                backend
                    .put_part(upload, part.number, body(b"late"))
                    .await
                    .map(|_| ()),
                backend.complete(complete).await.map(|_| ()),
                backend.abort(upload).await,
            ];
            for (idx, result) in results.into_iter().enumerate() {
                assert!(
                    matches!(result, Err(Error::NoSuchUpload)),
                    "{idx}: {result:?}"
                );
            }
        }
    }

    async fn changed_uploads(&self) {
        let backend = self.backend;
        let upload = self.begin("c").await;
        let first = self.part(&upload, 1, b"first").await;
        self.part(&upload, 1, b"again").await;
        let changed = backend.complete(Self::completed(&upload, &[&first])).await;
        assert!(matches!(changed, Err(Error::Changed)), "{changed:?}");
        let first = self.part(&upload, 1, b"first").await;
        self.put("c", b"there").await;
        let mut complete = Self::completed(&upload, &[&first]);
        complete.when = Precondition::Absent;
        let refused = backend.complete(complete.clone()).await;
        assert!(matches!(refused, Err(Error::Precondition)), "{refused:?}");
        assert_eq!(self.read("c", None).await, b"there");
        self.delete(&["c"]).await;
        backend
            .complete(complete)
            .await
            .expect("it was as it had been");
        assert_eq!(self.read("c", None).await, b"first");
        self.delete(&["c"]).await;
        let upload = self.begin("c").await;
        let first = self.part(&upload, 1, b"first").await;
        backend.abort(&upload).await.expect("abort an upload");
        self.gone(&upload, &first, Self::completed(&upload, &[&first]))
            .await;
    }

    async fn upload_lists(&self) {
        let mut begun = BTreeSet::new();
        for text in ["l/1", "l/2", "l/1", "m"] {
            let upload = self.begin(text).await;
            begun.insert((upload.name.key.to_string(), upload.id.to_string()));
        }
        let listed = async |prefix: &str, after: (&str, Option<&str>), uploads_max| {
            let uploads = self
                .backend
                .uploads(&self.bucket, prefix, after, uploads_max)
                .await;
            let uploads = uploads.expect("list uploads").into_iter();
            let pair = |upload: Upload| (upload.name.key.to_string(), upload.id.to_string());
            uploads
                .map(|uploading| pair(uploading.upload))
                .collect::<Vec<_>>()
        };
        let all: Vec<_> = begun.into_iter().collect();
        assert_eq!(listed("", ("", None), 10).await, all);
        assert_eq!(listed("", ("", None), 2).await, all[..2]);
        assert_eq!(listed("", ("l/1", None), 10).await, all[2..]);
        assert_eq!(listed("", ("l/1", Some(&all[0].1)), 10).await, all[1..]);
        assert_eq!(listed("l/", ("", None), 10).await, all[..3]);
        for (text, id) in &all[1..] {
            let upload = Upload {
                name: self.name(text),
                id: UploadId::new(id).expect("an id"),
            };
            self.backend.abort(&upload).await.expect("abort an upload");
        }
        // The first one goes with the bucket.
        assert_eq!(listed("", ("", None), 10).await, all[..1]);
    }
}

async fn all(mut pieces: Chunks) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(piece) = pieces.next().await {
        content.extend_from_slice(&piece.expect("read an object"));
    }
    content
}

/// What is listed, from all keys.
fn model(keys: &[&str], prefix: &str, delimiter: &str, from: ListFrom<'_>) -> Vec<String> {
    let is_after = |text: &str| match from {
        ListFrom::After(after) => text > after,
        ListFrom::AfterPrefix(before) => text > before && !text.starts_with(before),
        ListFrom::Start | ListFrom::Cursor(_) => true,
    };
    let keys: BTreeSet<_> = keys.iter().copied().collect();
    let asked = keys
        .into_iter()
        .filter(|text| text.starts_with(prefix) && is_after(text));
    let mut listed = asked
        .map(|text| match common_prefix(text, prefix, delimiter) {
            Some(common) => format!("{common}…"),
            None => text.to_owned(),
        })
        .collect::<Vec<_>>();
    listed.dedup();
    listed
}
