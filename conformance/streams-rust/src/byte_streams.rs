//! Bytes without events: written by one after the other, read from anywhere, given up at the front, sealed.

use std::io::SeekFrom;

use pravega_client::byte::{ByteReader, ByteWriter};
use pravega_client::error::Error;

use crate::lab::{Lab, Outcome, bytes, check, same, within};

const SIZE: usize = 3 << 20;
const HALF: usize = SIZE / 2 + 13;

pub(crate) async fn run(lab: Lab) -> Outcome {
    let all = bytes(7, SIZE);
    let stream = lab.stream("stream", 1).await?;
    let mut writer = lab.client.create_byte_writer(stream.clone()).await;
    write(&mut writer, &all[..HALF]).await?;
    let mut reader = lab.client.create_byte_reader(stream.clone()).await;
    same(
        &HALF,
        &usize::try_from(reader.current_tail().await?)?,
        "tail",
    )?;
    check(all[..HALF] == read(&mut reader, HALF).await?, "half")?;

    // Who does not know where the stream ends writes nothing.
    let mut other = lab.client.create_byte_writer(stream.clone()).await;
    other.write(&all[HALF..HALF + 100]).await?;
    let refused = matches!(
        other.flush().await,
        Err(Error::ConditionalCheckFailure { .. })
    );
    check(
        refused,
        "what is written elsewhere than at the end is refused",
    )?;
    other.reset().await?;
    other.seek_to_tail().await;
    write(&mut other, &all[HALF..]).await?;
    check(all[HALF..] == read(&mut reader, SIZE - HALF).await?, "rest")?;

    reader.seek(SeekFrom::Start(1000)).await?;
    check(
        all[1000..1050] == read(&mut reader, 50).await?,
        "from within",
    )?;
    reader.seek(SeekFrom::Current(-20)).await?;
    check(all[1030..1050] == read(&mut reader, 20).await?, "back")?;
    reader.seek(SeekFrom::End(-30)).await?;
    check(all[SIZE - 30..] == read(&mut reader, 30).await?, "the end")?;

    other.truncate_data_before(i64::try_from(HALF)?).await?;
    same(
        &HALF,
        &usize::try_from(reader.current_head().await?)?,
        "head",
    )?;
    same(
        &SIZE,
        &usize::try_from(reader.current_tail().await?)?,
        "tail",
    )?;
    reader.seek(SeekFrom::Start(0)).await?;
    let given_up = within("an answer", async { Ok(reader.read(&mut [0]).await) }).await?;
    check(given_up.is_err(), "what is given up is not read")?;

    other.seal().await?;
    other.write(b"late").await?;
    let late = within("an answer", async { Ok(other.flush().await) }).await?;
    check(late.is_err(), "nothing is written to what is sealed")?;
    reader.seek(SeekFrom::Start(u64::try_from(HALF)?)).await?;
    check(
        all[HALF..] == read(&mut reader, SIZE - HALF).await?,
        "to the end",
    )?;
    let behind = within("the end", async { Ok(reader.read(&mut [0]).await?) }).await?;
    same(&0, &behind, "bytes behind the end")
}

async fn write(writer: &mut ByteWriter, bytes: &[u8]) -> Outcome {
    let written = writer.write(bytes).await?;
    same(&bytes.len(), &written, "bytes written")?;
    writer.flush().await?;
    Ok(())
}

async fn read(reader: &mut ByteReader, size: usize) -> Outcome<Vec<u8>> {
    let mut bytes = vec![0; size];
    within(&format!("{size} bytes"), async {
        let mut have = 0;
        while have < size {
            let n = reader.read(&mut bytes[have..]).await?;
            check(n > 0, "the end is not reached yet")?;
            have += n;
        }
        Ok(bytes)
    })
    .await
}
