//! Clients change a state at once: no change is lost, none is done twice; what is removed is gone.

use pravega_client::sync::Synchronizer;
use pravega_client::sync::synchronizer::SynchronizerError::SyncUpdateError;
use pravega_client::sync::synchronizer::{SynchronizerError, Update, deserialize_from};

use crate::lab::{Lab, Outcome, check, same};

const CLIENTS: u64 = 4;
const CHANGES: u64 = 40;

pub(crate) async fn run(lab: Lab) -> Outcome {
    tokio::try_join!(
        change(&lab, "0"),
        change(&lab, "1"),
        change(&lab, "2"),
        change(&lab, "3")
    )?;
    let mut state = open(&lab).await;
    state.fetch_updates().await?;
    same(&Some(CLIENTS * CHANGES), &get(&state, "all")?, "count")?;
    for client in 0..CLIENTS {
        let count = get(&state, &client.to_string())?;
        same(&Some(CHANGES), &count, "count of a client")?;
    }

    let mut other = open(&lab).await;
    other.fetch_updates().await?;
    other
        .insert(|state| state.insert_tombstone("counts".to_owned(), "3".to_owned()))
        .await?;
    same(&None, &get(&other, "3")?, "what is removed")?;
    let mut new = open(&lab).await;
    new.fetch_updates().await?;
    same(&None, &get(&new, "3")?, "what is removed")?;
    same(&4, &new.get_inner_map("counts").len(), "counts")?;

    // Who has not seen that is told when it writes, and not that it was there.
    let seen = state
        .insert(|state| {
            let is_there = state.contains_key("counts", "2");
            add(state, "2")?;
            Ok(is_there)
        })
        .await?;
    check(seen, "the others are there")?;
    new.fetch_updates().await?;
    same(&Some(CHANGES + 1), &get(&new, "2")?, "count of a client")
}

async fn open(lab: &Lab) -> Synchronizer {
    lab.client
        .create_synchronizer(lab.scope.clone(), "state".to_owned())
        .await
}

async fn change(lab: &Lab, own: &str) -> Outcome {
    let mut state = open(lab).await;
    for _ in 0..CHANGES {
        // Both or none of them.
        state
            .insert(|state| {
                add(state, "all")?;
                add(state, own)
            })
            .await?;
    }
    Ok(())
}

fn get(state: &Synchronizer, name: &str) -> Outcome<Option<u64>> {
    let value = state.get("counts", name);
    Ok(value.map(|v| deserialize_from(&v.data)).transpose()?)
}

fn add(state: &mut Update, name: &str) -> Result<(), SynchronizerError> {
    let mut count = 0;
    if state.contains_key("counts", name)
        && let Some(value) = state.get("counts", name)
    {
        count = deserialize_from(&value.data).map_err(|error| SyncUpdateError {
            error_msg: error.to_string(),
        })?;
    }
    state.insert(
        "counts".to_owned(),
        name.to_owned(),
        "u64".to_owned(),
        Box::new(count + 1_u64),
    );
    Ok(())
}
