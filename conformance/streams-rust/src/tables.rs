//! Tables of keys and values: with versions and without, many entries at once or none of them, listed by pieces, and followed from a place.

use std::collections::BTreeMap;
use std::pin::pin;

use futures_util::StreamExt as _;
use pravega_client::sync::Table;
use pravega_client::sync::table::TableError;

use crate::lab::{Lab, Outcome, check, same};

/// As a version: there is to be no such key.
const ABSENT: i64 = -1;
/// As an offset: wherever the table ends.
const ANYWHERE: i64 = -1;

pub(crate) async fn run(lab: Lab) -> Outcome {
    let table = open(&lab, "one").await;
    one(&table).await?;
    many(&open(&lab, "many").await).await?;
    pieces(&open(&lab, "pieces").await).await?;
    // Who opens a table again finds what is there.
    let found = get(&open(&lab, "one").await, "kept").await?;
    same(&Some("value".to_owned()), &found.map(|(v, _)| v), "value")
}

async fn open(lab: &Lab, name: &str) -> Table {
    lab.client
        .create_table(lab.scope.clone(), name.to_owned())
        .await
}

async fn get(table: &Table, key: &str) -> Outcome<Option<(String, i64)>> {
    Ok(table.get(&key.to_owned()).await?)
}

async fn one(table: &Table) -> Outcome {
    let key = "key".to_owned();
    let value = |n: i32| format!("value {n}");
    same(&None, &get(table, "key").await?, "value")?;
    let first = table
        .insert_conditionally(&key, &value(1), ABSENT, ANYWHERE)
        .await?;
    same(&Some((value(1), first)), &get(table, "key").await?, "value")?;
    let refused = table
        .insert_conditionally(&key, &value(2), ABSENT, ANYWHERE)
        .await;
    bad_version(refused)?;
    let second = table
        .insert_conditionally(&key, &value(3), first, ANYWHERE)
        .await?;
    check(second > first, "versions grow")?;
    bad_version(table.remove_conditionally(&key, first, ANYWHERE).await)?;
    let third = table.insert(&key, &value(4), ANYWHERE).await?;
    same(&Some((value(4), third)), &get(table, "key").await?, "value")?;
    table.remove_conditionally(&key, third, ANYWHERE).await?;
    same(&None, &get(table, "key").await?, "value")?;
    let absent = table.remove_conditionally(&key, third, ANYWHERE).await;
    let absent = matches!(absent, Err(TableError::KeyDoesNotExist { .. }));
    check(absent, "what is removed is not there to be removed")?;
    table.remove(&key, ANYWHERE).await?;
    let kept = "kept".to_owned();
    table.insert(&kept, &"value".to_owned(), ANYWHERE).await?;
    Ok(())
}

async fn many(table: &Table) -> Outcome {
    let [a, b, c] = ["a", "b", "c"].map(str::to_owned);
    let versions = table.insert_all(vec![(&a, &1), (&b, &2)], ANYWHERE).await?;
    let refused = table
        .insert_conditionally_all(vec![(&a, &3, versions[0]), (&b, &4, ABSENT)], ANYWHERE)
        .await;
    bad_version(refused)?;
    let found: Vec<Option<(i32, i64)>> = table.get_all(vec![&a, &b, &c]).await?;
    let wanted = vec![Some((1, versions[0])), Some((2, versions[1])), None];
    same(&wanted, &found, "values after none was changed")?;
    let refused = table
        .remove_conditionally_all(vec![(&a, versions[0]), (&b, versions[0])], ANYWHERE)
        .await;
    bad_version(refused)?;
    let found: Vec<Option<(i32, i64)>> = table.get_all(vec![&a, &b, &c]).await?;
    same(&wanted, &found, "values after none was removed")?;
    table.remove_all(vec![&a, &b], ANYWHERE).await?;
    let found: Vec<Option<(i32, i64)>> = table.get_all(vec![&a, &b]).await?;
    same(&vec![None, None], &found, "values")
}

async fn pieces(table: &Table) -> Outcome {
    let name = |n: usize| format!("key {n}");
    let mut wanted = BTreeMap::new();
    for n in 0..57 {
        table.insert(&name(n), &n, ANYWHERE).await?;
        wanted.insert(name(n), n);
    }
    let mut keys = Vec::new();
    let mut found = pin!(table.read_keys_stream::<String>(10));
    while let Some(key) = found.next().await {
        keys.push(key?.0);
    }
    keys.sort_unstable();
    same(&wanted.keys().cloned().collect(), &keys, "keys")?;

    let mut entries = Vec::new();
    let mut found = pin!(table.read_entries_stream::<String, usize>(10));
    while let Some(entry) = found.next().await {
        let (key, value, _) = entry?;
        entries.push((key, value));
    }
    entries.sort_unstable();
    let all: Vec<(String, usize)> = wanted.into_iter().collect();
    same(&all, &entries, "entries")?;

    let mut place = 0;
    let mut n = 0;
    let mut found = pin!(table.read_entries_stream_from_position::<String, usize>(10, 0));
    while let Some(entry) = found.next().await {
        let (key, value, _, behind) = entry?;
        same(
            &(name(n), n),
            &(key, value),
            "entry in the order of writing",
        )?;
        n += 1;
        place = behind;
    }
    same(&57, &n, "entries in the order of writing")?;
    table.insert(&name(3), &1000_usize, ANYWHERE).await?;
    let mut found = pin!(table.read_entries_stream_from_position::<String, usize>(10, place));
    let new = found.next().await.ok_or("nothing is new")??;
    same(&(name(3), 1000), &(new.0, new.1), "what is new")?;
    check(found.next().await.is_none(), "nothing else is new")
}

fn bad_version<T>(result: Result<T, TableError>) -> Outcome {
    match result {
        Err(TableError::IncorrectKeyVersion { .. }) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err("a wrong version is not refused".into()),
    }
}
