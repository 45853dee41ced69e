//! A scope of a program at the server that it tests, and what all programs do there.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Debug;
use std::ops::Range;
use std::time::Duration;

use pravega_client::client_factory::ClientFactoryAsync;
use pravega_client::event::{EventReader, EventWriter, ReaderGroup};
use pravega_client_shared::{
    Retention, RetentionType, ScaleType, Scaling, Scope, ScopedStream, Segment, Stream,
    StreamConfiguration,
};
use pravega_controller_client::ControllerClient;
use tokio::sync::oneshot;
use tokio::time::timeout;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// For what the server is to do within moments.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Lab {
    pub(crate) client: ClientFactoryAsync,
    pub(crate) scope: Scope,
}

impl Lab {
    pub(crate) async fn new(client: ClientFactoryAsync, scope: String) -> Outcome<Self> {
        let scope = Scope::from(scope);
        let lab = Self { client, scope };
        let is_new = lab.controller().create_scope(&lab.scope).await?;
        check(is_new, "the scope is new")?;
        Ok(lab)
    }

    pub(crate) fn controller(&self) -> &dyn ControllerClient {
        self.client.controller_client()
    }

    pub(crate) fn configuration(&self, stream: &str, segments: i32) -> StreamConfiguration {
        StreamConfiguration {
            scoped_stream: ScopedStream::new(self.scope.clone(), Stream::from(stream.to_owned())),
            scaling: Scaling {
                scale_type: ScaleType::FixedNumSegments,
                target_rate: 0,
                scale_factor: 0,
                min_num_segments: segments,
            },
            retention: Retention {
                retention_type: RetentionType::None,
                retention_param: 0,
            },
            tags: None,
        }
    }

    /// A new stream.
    pub(crate) async fn stream(&self, name: &str, segments: i32) -> Outcome<ScopedStream> {
        let configuration = self.configuration(name, segments);
        let is_new = self.controller().create_stream(&configuration).await?;
        check(is_new, "the stream is new")?;
        Ok(configuration.scoped_stream)
    }

    /// These events of each of the keys, durable when this returns.
    pub(crate) async fn write(
        &self,
        stream: &ScopedStream,
        keys: Range<usize>,
        numbers: Range<usize>,
    ) -> Outcome {
        let mut writer = self.client.create_event_writer(stream.clone());
        write(&mut writer, keys, numbers).await
    }

    /// Group and reader of that name, of all that the stream has.
    pub(crate) async fn reader(&self, name: &str, stream: &ScopedStream) -> EventReader {
        let group = self.group(name, stream).await;
        group.create_reader(name.to_owned()).await
    }

    pub(crate) async fn group(&self, name: &str, stream: &ScopedStream) -> ReaderGroup {
        self.client
            .create_reader_group(name.to_owned(), stream.clone())
            .await
    }

    /// Divides all keys into equal parts.
    pub(crate) async fn scale(&self, stream: &ScopedStream, n: u32) -> Outcome {
        let old = self.controller().get_current_segments(stream).await?;
        let old: Vec<Segment> = old.get_segments().into_iter().map(|s| s.segment).collect();
        let bound = |i| f64::from(i) / f64::from(n);
        let new: Vec<(f64, f64)> = (0..n).map(|i| (bound(i), bound(i + 1))).collect();
        self.controller().scale_stream(stream, &old, &new).await?;
        let current = self.controller().get_current_segments(stream).await?;
        same(&new.len(), &current.get_segments().len(), "segments")
    }
}

pub(crate) fn check(holds: bool, what: &str) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(format!("does not hold: {what}").into())
    }
}

pub(crate) fn same<T: PartialEq + Debug + ?Sized>(wanted: &T, found: &T, what: &str) -> Outcome {
    if wanted == found {
        Ok(())
    } else {
        Err(format!("{what}: {found:?} instead of {wanted:?}").into())
    }
}

/// Gives up after a minute.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let Ok(outcome) = timeout(PATIENCE, future).await else {
        return Err(format!("not within {} s: {what}", PATIENCE.as_secs()).into());
    };
    outcome
}

pub(crate) fn key(key: usize) -> String {
    format!("key{key}")
}

pub(crate) fn event(key: usize, number: usize) -> Vec<u8> {
    format!("{key} {number}").into_bytes()
}

pub(crate) async fn write(
    writer: &mut EventWriter,
    keys: Range<usize>,
    numbers: Range<usize>,
) -> Outcome {
    let mut acknowledged: Vec<oneshot::Receiver<_>> = Vec::new();
    for number in numbers {
        for k in keys.clone() {
            let sent = writer.write_event_by_routing_key(key(k), event(k, number));
            acknowledged.push(sent.await);
        }
    }
    writer.flush().await?;
    for one in acknowledged {
        one.await??;
    }
    Ok(())
}

/// The events that there are now, of one segment; none if there are none within the second that the client waits.
pub(crate) async fn take(reader: &mut EventReader) -> Outcome<Vec<Vec<u8>>> {
    let Some(mut slice) = reader.acquire_segment().await? else {
        return Ok(Vec::new());
    };
    let events = slice.by_ref().map(|event| event.value).collect();
    reader.release_segment(slice).await?;
    Ok(events)
}

/// So many events, and no more for a second.
pub(crate) async fn read(reader: &mut EventReader, n: usize) -> Outcome<Vec<Vec<u8>>> {
    let mut events = Vec::new();
    let what = format!("{n} events");
    within(&what, async {
        while events.len() < n {
            events.extend(take(reader).await?);
        }
        Ok(())
    })
    .await?;
    events.extend(take(reader).await?);
    same(&n, &events.len(), "events")?;
    Ok(events)
}

/// Reads these events of each of the keys: each once, those of a key in order.
pub(crate) async fn read_all(
    reader: &mut EventReader,
    keys: Range<usize>,
    numbers: Range<usize>,
) -> Outcome {
    let events = read(reader, keys.len() * numbers.len()).await?;
    let mut next: HashMap<usize, usize> = keys.map(|key| (key, numbers.start)).collect();
    for event in events {
        let (key, number) = parse(&event)?;
        let next = next.get_mut(&key).ok_or(format!("no such key: {key}"))?;
        same(next, &number, &format!("next event of key {key}"))?;
        *next += 1;
    }
    Ok(())
}

/// Key and number of an event.
pub(crate) fn parse(event: &[u8]) -> Outcome<(usize, usize)> {
    let text = str::from_utf8(event)?;
    let (key, number) = text.split_once(' ').ok_or(format!("no event: {text}"))?;
    Ok((key.parse()?, number.parse()?))
}

/// Bytes that differ from place to place, and from seed to seed.
pub(crate) fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        // Xorshift: enough that no piece is like another one.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
