//! The OpenAPI document that is checked in is the one that the code says.

#[test]
fn the_document_is_the_one_that_is_checked_in() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../openapi/v1.json");
    let text = std::fs::read_to_string(path).expect("openapi/v1.json");
    let checked_in: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(
        checked_in == orchestrator::openapi(),
        "openapi/v1.json is not what the code says; look at the difference after\n    \
         cargo run -p orchestrator --example openapi > openapi/v1.json"
    );
}
