//! Frames on a stream.

use std::io;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use workload::link::{frame_head, parse_frame_head};

/// As it goes over the wire.
pub(crate) type Frame = Arc<[u8]>;

/// `None`: longer than a frame may be.
pub(crate) fn encode(header: &impl Serialize, payload: &[u8]) -> Option<Frame> {
    let header = serde_json::to_vec(header).expect("messages have only keys that JSON can have");
    let head = frame_head(header.len(), payload.len())?;
    Some([&head[..], &header, payload].concat().into())
}

pub(crate) async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    stream.write_all(frame).await?;
    stream.flush().await
}

/// `bytes_max`: of the header and of the payload, if that is less than what a frame may have. Not cancel-safe.
pub(crate) async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> io::Result<(T, Vec<u8>)> {
    let mut head = [0; 8];
    stream.read_exact(&mut head).await?;
    let malformed = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
    let is_allowed = |(header, payload): &(usize, usize)| *header.max(payload) <= bytes_max;
    let lengths = parse_frame_head(head).filter(is_allowed);
    let (header_len, payload_len) =
        lengths.ok_or_else(|| malformed("a frame is longer than allowed".to_owned()))?;
    // Memory is taken as bytes come, not as they are announced.
    let header = read_bytes(stream, header_len).await?;
    let payload = read_bytes(stream, payload_len).await?;
    let header = serde_json::from_slice(&header);
    let header = header.map_err(|e| malformed(format!("a message cannot be read: {e}")))?;
    Ok((header, payload))
}

async fn read_bytes(stream: &mut (impl AsyncRead + Unpin), len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(len).expect("a length fits");
    let n_read = stream.take(limit).read_to_end(&mut bytes).await?;
    if n_read < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use workload::link::{Down, Up};

    use super::*;

    const MAX: usize = 1 << 10;

    fn message() -> Up {
        let digest = "a".repeat(64).parse().expect("a digest");
        Up::WantModule { digest }
    }

    #[tokio::test]
    async fn a_frame_comes_back_and_a_part_of_one_does_not() {
        let frame = encode(&message(), b"payload").expect("short");
        let mut sent = Vec::new();
        write(&mut sent, &frame).await.expect("a vector takes it");
        let read_back = read::<Up>(&mut sent.as_slice(), MAX).await;
        let (header, payload) = read_back.expect("whole");
        assert_eq!(format!("{header:?}"), format!("{:?}", message()));
        assert_eq!(payload, b"payload");
        for len in 0..sent.len() {
            read::<Up>(&mut &sent[..len], MAX)
                .await
                .expect_err("a part");
        }
    }

    #[tokio::test]
    async fn what_is_too_long_or_means_nothing_is_refused() {
        let long = encode(&message(), &[0; MAX + 1]).expect("a frame may be longer");
        let other = encode(&"hello", &[]).expect("short");
        for bad in [&*long, &other, &[255; 64], &[0; 8]] {
            read::<Up>(&mut &bad[..], MAX).await.expect_err("refused");
        }
        let reason = "x".repeat(workload::link::HEADER_BYTES_MAX);
        assert_eq!(encode(&Down::Refused { reason }, &[]), None);
    }
}
