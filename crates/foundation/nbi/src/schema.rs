//! The schemas of the OpenAPI document, for all that is in bodies.
//!
//! They are derived from the types where the types say it all; texts with a form have a type here that says which.

use std::borrow::Cow;

use ids::{BYTES_PATTERN, DURATION_PATTERN};
use serde_json::{Map, Value, json};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Object, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::limits::{
    ENV_MAX, LABEL_CHARS_MAX, LABELS_MAX, POLICY_CHARS_MAX, RANKS_MAX, REASON_CHARS_MAX,
    REQUEST_PATH_CHARS_MAX, TEXT_CHARS_MAX,
};
use crate::{
    Decisions, Explanation, JoinToken, Migration, MigrationSpec, NewJoinToken, Operation, Page,
    PolicyRequest, Problem, Scale, Service, Site, Units,
};

/// What users write: fields that are not described are refused there.
const STRICT: [&str; 15] = [
    "Service",
    "Metadata",
    "ServiceSpec",
    "Block",
    "Mount",
    "Checkpoints",
    "Limits",
    "Placement",
    "Kpi",
    "Policy",
    "MigrationSpec",
    "Target",
    "Scale",
    "PolicyRequest",
    "NewJoinToken",
];

/// Every schema by its name, as JSON.
///
/// # Panics
/// Never: schemas are JSON.
#[must_use]
pub fn components() -> Map<String, Value> {
    let mut found = Vec::new();
    add::<Service>(&mut found);
    add::<Site>(&mut found);
    add::<Migration>(&mut found);
    add::<MigrationSpec>(&mut found);
    add::<Operation>(&mut found);
    add::<Scale>(&mut found);
    add::<PolicyRequest>(&mut found);
    add::<NewJoinToken>(&mut found);
    add::<JoinToken>(&mut found);
    add::<Units>(&mut found);
    add::<Explanation>(&mut found);
    add::<Decisions>(&mut found);
    add::<Problem>(&mut found);
    add_page::<Service>(&mut found);
    add_page::<Site>(&mut found);
    add_page::<Migration>(&mut found);
    add_page::<Operation>(&mut found);
    let mut components = Map::new();
    for (name, schema) in found {
        let mut schema = serde_json::to_value(schema).expect("a schema is JSON");
        if STRICT.contains(&name.as_str()) {
            forbid_others(&mut schema);
        }
        if name == "Service" {
            // What the derived schema cannot say of a field that is a reference.
            schema["properties"]["status"]["readOnly"] = json!(true);
        }
        components.insert(name, schema);
    }
    components
}

fn forbid_others(schema: &mut Value) {
    if schema.get("properties").is_some() {
        schema["additionalProperties"] = json!(false);
    }
    if let Some(Value::Array(variants)) = schema.get_mut("oneOf") {
        variants.iter_mut().for_each(forbid_others);
    }
}

fn add<T: ToSchema>(found: &mut Vec<(String, RefOr<Schema>)>) {
    found.push((T::name().into_owned(), T::schema()));
    T::schemas(found);
}

/// The schema of a page of `T` is called `TPage`.
fn add_page<T: ToSchema>(found: &mut Vec<(String, RefOr<Schema>)>) {
    found.push((format!("{}Page", T::name()), Page::<T>::schema()));
}

macro_rules! named {
    ($(#[$doc:meta])* $type:ident, $name:literal, $schema:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $type;

        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                RefOr::T(Schema::Object($schema))
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                $name.into()
            }
        }
    };
}

fn text(pattern: &str, chars_max: usize, example: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .max_length(Some(chars_max))
        .examples([json!(example)])
}

/// A text for a C program: no NUL in it.
fn c_text() -> ObjectBuilder {
    text("^[^\\u0000]*$", TEXT_CHARS_MAX, "--size")
}

fn map_of(values: ObjectBuilder, keys: ObjectBuilder, n_max: usize) -> Object {
    let mut map = ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::RefOr(values.build().into())))
        .property_names(Some(Schema::Object(keys.build())));
    map = map.max_properties(Some(n_max));
    map.build()
}

named!(
    /// [`ids::Name`]
    Name,
    "Name",
    text("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", 63, "video")
        .description(Some("A DNS label (RFC 1123)."))
        .build()
);
named!(
    /// See [`parse_duration`](crate::parse_duration).
    Duration,
    "Duration",
    text(DURATION_PATTERN, 11, "200ms").build()
);
named!(
    /// See [`parse_bytes`](crate::parse_bytes).
    Bytes,
    "Bytes",
    text(BYTES_PATTERN, 11, "512Mi").build()
);
named!(ApiVersion, "ApiVersion", one_of(&[crate::API_VERSION]));
named!(ServiceKind, "ServiceKind", one_of(&["Service"]));
named!(
    ModuleDigest,
    "ModuleDigest",
    text("^sha256:[0-9a-f]{64}$", 71, &format!("sha256:{:064}", 7)).build()
);
named!(Argument, "Argument", c_text().build());
named!(
    Environment,
    "Environment",
    map_of(
        c_text(),
        text("^[^=\\u0000]+$", TEXT_CHARS_MAX, "OMP_NUM_THREADS"),
        ENV_MAX
    )
);
named!(
    /// [`ids::Labels`]
    Labels,
    "Labels",
    map_of(label_text(0), label_text(1), LABELS_MAX)
);
named!(
    Rank,
    "Rank",
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0))
        .maximum(Some(RANKS_MAX - 1))
        .build()
);
named!(
    MountPath,
    "MountPath",
    text("^/[^\\u0000]*$", TEXT_CHARS_MAX, "/data").build()
);
named!(
    MountSource,
    "MountSource",
    text("^file:///[^\\u0000]*$", TEXT_CHARS_MAX, "file:///srv/data").build()
);
named!(
    Iteration,
    "Iteration",
    text(crate::parse::ITERATION_PATTERN, 200, "MPI_Allreduce").build()
);
named!(
    PolicyText,
    "PolicyText",
    ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(POLICY_CHARS_MAX))
        .build()
);
named!(
    RequestPath,
    "RequestPath",
    text("^/", REQUEST_PATH_CHARS_MAX, "/analyze_qos").build()
);
named!(
    Reason,
    "Reason",
    ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(REASON_CHARS_MAX))
        .build()
);

fn label_text(chars_min: usize) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(chars_min))
        .max_length(Some(LABEL_CHARS_MAX))
}

fn one_of(texts: &[&str]) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(texts.iter().copied()))
        .build()
}

/// [`ids::Selector`]
#[derive(Debug)]
pub struct Selector;

impl PartialSchema for Selector {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new()
            .schema_type(Type::Object)
            .property("matchLabels", RefOr::<Schema>::Ref(reference("Labels")))
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .description(Some("All of these labels; none of them: everything."));
        object.build().into()
    }
}

impl ToSchema for Selector {
    fn name() -> Cow<'static, str> {
        "Selector".into()
    }

    fn schemas(found: &mut Vec<(String, RefOr<Schema>)>) {
        found.push((Labels::name().into_owned(), Labels::schema()));
    }
}

fn reference(name: &str) -> utoipa::openapi::Ref {
    utoipa::openapi::Ref::from_schema_name(name)
}
