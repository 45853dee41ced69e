//! Reader groups: as upstream's `StreamMetadataTasks`, but for consumption: who subscribes to what is remembered, and nothing is kept for them.

use std::collections::{BTreeMap, HashMap};

use streams_control::{
    Cut, Group, Refusal, Request as Change, Response as Done, StreamName, Subscription,
};
use streams_proto::controller as wire;
use tonic::{Request, Status};
use wire::create_reader_group_response::Status as Created;
use wire::delete_reader_group_status::Status as Deleted;
use wire::reader_group_config_response::Status as Found;
use wire::reader_group_configuration::RetentionType;
use wire::update_reader_group_response::Status as Updated;

use super::convert::status;
use super::{Service, convert};
use crate::controller::authority::{self, Permission};

/// Of a group that is asked for by name only.
const NO_ID: u128 = 0;

pub(super) async fn create_reader_group(
    service: &Service,
    request: &Request<wire::ReaderGroupConfiguration>,
) -> Result<wire::CreateReaderGroupResponse, Status> {
    let asked = request.get_ref();
    let told = |told: Created, config| {
        let status = told.into();
        Ok(wire::CreateReaderGroupResponse { status, config })
    };
    allow(service, request, &asked.scope)?;
    if convert::scope(&asked.scope).is_err() {
        return told(Created::ScopeNotFound, None);
    }
    let Ok(name) = Group::stream(&asked.scope, &asked.reader_group_name) else {
        return told(Created::InvalidRgName, None);
    };
    let mut group = group(asked).map_err(|refusal| status(&refusal))?;
    if group.id == NO_ID {
        group.id = u128::from(rt::random_u64()) << 64 | u128::from(rt::random_u64());
    }
    let create = Change::CreateGroup(name, Box::new(group));
    match service.request(create).await {
        Ok(Done::Group(group)) => told(Created::Success, Some(said(asked, &group))),
        Ok(_) => Err(Status::internal("this is no answer to that")),
        Err(Refusal::NoScope) => told(Created::ScopeNotFound, None),
        Err(refusal) => Err(status(&refusal)),
    }
}

pub(super) fn get_reader_group_config(
    service: &Service,
    request: &Request<wire::ReaderGroupInfo>,
) -> Result<wire::ReaderGroupConfigResponse, Status> {
    let info = request.get_ref();
    allow(service, request, &info.scope)?;
    let found = Group::stream(&info.scope, &info.reader_group)
        .and_then(|name| service.ask(|control| control.group(&name).cloned()));
    let (told, config) = match found {
        Ok(group) => {
            let asked = wire::ReaderGroupConfiguration {
                scope: info.scope.clone(),
                reader_group_name: info.reader_group.clone(),
                ..Default::default()
            };
            (Found::Success, said(&asked, &group))
        }
        Err(Refusal::NoStream | Refusal::NoScope | Refusal::Invalid(_)) => {
            (Found::RgNotFound, wire::ReaderGroupConfiguration::default())
        }
        Err(refusal) => return Err(status(&refusal)),
    };
    Ok(wire::ReaderGroupConfigResponse {
        config: Some(config),
        status: told.into(),
    })
}

pub(super) async fn update_reader_group(
    service: &Service,
    request: &Request<wire::ReaderGroupConfiguration>,
) -> Result<wire::UpdateReaderGroupResponse, Status> {
    let asked = request.get_ref();
    allow(service, request, &asked.scope)?;
    let updated = match Group::stream(&asked.scope, &asked.reader_group_name) {
        Ok(name) => match group(asked) {
            Ok(group) => {
                let update = Change::UpdateGroup(name, Box::new(group));
                service.request(update).await
            }
            Err(refusal) => Err(refusal),
        },
        Err(_) => Err(Refusal::NoStream),
    };
    let (told, generation) = match updated {
        Ok(Done::Group(group)) => (Updated::Success, group.generation.cast_signed()),
        Ok(_) => return Err(Status::internal("this is no answer to that")),
        Err(Refusal::NoStream | Refusal::NoScope) => (Updated::RgNotFound, asked.generation),
        Err(Refusal::Precondition(_) | Refusal::Invalid(_)) => {
            (Updated::InvalidConfig, asked.generation)
        }
        Err(refusal) => return Err(status(&refusal)),
    };
    Ok(wire::UpdateReaderGroupResponse {
        status: told.into(),
        generation,
    })
}

pub(super) async fn delete_reader_group(
    service: &Service,
    request: &Request<wire::ReaderGroupInfo>,
) -> Result<wire::DeleteReaderGroupStatus, Status> {
    let info = request.get_ref();
    allow(service, request, &info.scope)?;
    let id = id(&info.reader_group_id).map_err(|refusal| status(&refusal))?;
    let deleted = match Group::stream(&info.scope, &info.reader_group) {
        Ok(name) => service.request(Change::DeleteGroup(name, id)).await,
        Err(_) => Err(Refusal::NoStream),
    };
    let told = match deleted {
        Ok(_) => Deleted::Success,
        Err(Refusal::NoStream | Refusal::NoScope) => Deleted::RgNotFound,
        Err(refusal) => return Err(status(&refusal)),
    };
    let status = told.into();
    Ok(wire::DeleteReaderGroupStatus { status })
}

/// Who may read a scope may have groups there.
fn allow<T>(service: &Service, request: &Request<T>, scope: &str) -> Result<(), Status> {
    let resource = authority::of_scope(scope)?;
    service.check(request, &resource, Permission::Read)
}

fn group(said: &wire::ReaderGroupConfiguration) -> Result<Group, Refusal> {
    let retention = RetentionType::try_from(said.retention_type);
    let retention = retention.map_err(|_| Refusal::Invalid("groups do not subscribe like this"))?;
    let id = id(&said.reader_group_id)?;
    Ok(Group {
        id,
        // As upstream's `validateReaderGroupId`.
        generation: match id {
            NO_ID => 0,
            _ => convert::unsigned(said.generation)?,
        },
        refresh_ms: convert::unsigned(said.group_refresh_time_millis)?,
        // −1 of who wants none comes back as it was: clients compare.
        checkpoint_ms: said.automatic_checkpoint_interval_millis.cast_unsigned(),
        checkpoints_max: convert::unsigned(said.max_outstanding_checkpoint_request)?,
        retention: match retention {
            RetentionType::None => Subscription::None,
            RetentionType::Manual => Subscription::Manual,
            RetentionType::Automatic => Subscription::Automatic,
        },
        from: cuts(&said.starting_stream_cuts)?,
        to: cuts(&said.ending_stream_cuts)?,
        rollover_size_bytes: convert::unsigned(said.rollover_size_bytes)?,
    })
}

fn cuts(cuts: &[wire::StreamCut]) -> Result<BTreeMap<StreamName, Cut>, Refusal> {
    let cuts = cuts.iter().map(|it| {
        let stream = it.stream_info.as_ref();
        let stream = stream.ok_or(Refusal::Invalid("a cut names no stream"))?;
        let stream = StreamName::new(&stream.scope, &stream.stream)?;
        Ok((stream, convert::cut(&it.cut)?))
    });
    cuts.collect()
}

/// As Java writes a `UUID`.
fn id(text: &str) -> Result<u128, Refusal> {
    let wrong = Refusal::Invalid("the id of a reader group is a UUID");
    if text.is_empty() {
        return Ok(NO_ID);
    }
    let parts: Vec<_> = text.split('-').map(str::len).collect();
    let is_hex = |b: u8| b == b'-' || b.is_ascii_hexdigit();
    if parts != [8, 4, 4, 4, 12] || !text.bytes().all(is_hex) {
        return Err(wrong);
    }
    u128::from_str_radix(&text.replace('-', ""), 16).map_err(|_| wrong)
}

fn id_text(id: u128) -> String {
    let hex = format!("{id:032x}");
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

/// As it is, under the name that was asked for.
fn said(asked: &wire::ReaderGroupConfiguration, group: &Group) -> wire::ReaderGroupConfiguration {
    let cuts = |cuts: &BTreeMap<StreamName, Cut>| {
        let cuts = cuts.iter().map(|(stream, cut)| wire::StreamCut {
            stream_info: Some(convert::stream_info(stream)),
            cut: cut
                .iter()
                .map(|(id, offset)| (id.to_wire(), *offset))
                .collect::<HashMap<_, _>>(),
        });
        cuts.collect()
    };
    let retention = match group.retention {
        Subscription::None => RetentionType::None,
        Subscription::Manual => RetentionType::Manual,
        Subscription::Automatic => RetentionType::Automatic,
    };
    wire::ReaderGroupConfiguration {
        scope: asked.scope.clone(),
        reader_group_name: asked.reader_group_name.clone(),
        group_refresh_time_millis: group.refresh_ms.cast_signed(),
        automatic_checkpoint_interval_millis: group.checkpoint_ms.cast_signed(),
        max_outstanding_checkpoint_request: group.checkpoints_max.cast_signed(),
        retention_type: retention.into(),
        generation: group.generation.cast_signed(),
        reader_group_id: id_text(group.id),
        starting_stream_cuts: cuts(&group.from),
        ending_stream_cuts: cuts(&group.to),
        rollover_size_bytes: group.rollover_size_bytes.cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_java() {
        let text = "0f0e0d0c-0b0a-0908-8706-050403020100";
        assert_eq!(id_text(id(text).expect("one")), text);
        assert_eq!(id(""), Ok(NO_ID));
        for wrong in ["1", "0f0e0d0c0b0a09088706050403020100", "é", &text[1..]] {
            id(wrong).expect_err(wrong);
        }
        id("+f0e0d0c-0b0a-0908-8706-050403020100").expect_err("it has a sign");
    }
}
