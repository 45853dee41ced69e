//! How an endpoint is described.

use axum::routing::MethodRouter;
use axum::{Extension, routing};
use serde_json::{Value, json};

use super::Front;
use super::answer::JSON;
use super::call::Rules;

/// One thing that can be asked.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// What clients that are generated call it.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<Content>,
    pub(super) produces: &'static str,
    pub(super) answers: Vec<Reply>,
    /// Without a token.
    pub(super) is_open: bool,
    /// With a token of an operator.
    wants_operator: bool,
    handler: MethodRouter<Front>,
}

#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// `path`, `query` or `header`
    pub(super) place: &'static str,
    pub(super) is_required: bool,
    pub(super) schema: Value,
    pub(super) summary: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) kind: &'static str,
    pub(super) schema: Value,
}

#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) summary: &'static str,
    pub(super) content: Option<Content>,
    pub(super) headers: Vec<(&'static str, Value, &'static str)>,
}

pub(super) fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

impl Endpoint {
    pub(super) fn new(
        method: &'static str,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: MethodRouter<Front>,
    ) -> Self {
        Self {
            method,
            path,
            id,
            summary,
            parameters: Vec::new(),
            body: None,
            produces: JSON,
            answers: Vec::new(),
            is_open: false,
            wants_operator: false,
            handler,
        }
    }

    pub(super) fn open(self) -> Self {
        Self {
            is_open: true,
            ..self
        }
    }

    pub(super) fn for_operators(self) -> Self {
        let endpoint = Self {
            wants_operator: true,
            ..self
        };
        endpoint.problems(&[(403, "The token is not that of an operator.")])
    }

    pub(super) fn takes(mut self, parameters: &[Parameter]) -> Self {
        self.parameters.extend_from_slice(parameters);
        self
    }

    pub(super) fn body(self, kind: &'static str, schema: Value) -> Self {
        Self {
            body: Some(Content { kind, schema }),
            ..self
        }
    }

    /// What it shows when all is well.
    pub(super) fn shows(
        mut self,
        kind: &'static str,
        schema: Value,
        summary: &'static str,
    ) -> Self {
        self.produces = kind;
        self.answers(200, summary, Some(Content { kind, schema }))
    }

    pub(super) fn shows_json(self, schema: &str, summary: &'static str) -> Self {
        self.shows(JSON, reference(schema), summary)
    }

    pub(super) fn answers(
        mut self,
        status: u16,
        summary: &'static str,
        content: Option<Content>,
    ) -> Self {
        self.answers.push(Reply {
            status,
            summary,
            content,
            headers: Vec::new(),
        });
        self
    }

    /// A header of the answer that was described last.
    pub(super) fn with(mut self, name: &'static str, schema: Value, summary: &'static str) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push((name, schema, summary));
        }
        self
    }

    /// Problems beyond those that every endpoint may have.
    pub(super) fn problems(mut self, problems: &[(u16, &'static str)]) -> Self {
        for (status, summary) in problems {
            let content = Content {
                kind: "application/problem+json",
                schema: reference("Problem"),
            };
            self = self.answers(*status, summary, Some(content));
        }
        self
    }

    pub(super) fn into_route(self) -> MethodRouter<Front> {
        let is_query = |parameter: &&Parameter| parameter.place == "query";
        let rules = Rules {
            parameters: self
                .parameters
                .iter()
                .filter(is_query)
                .map(|p| p.name)
                .collect(),
            consumes: self.body.as_ref().map(|body| body.kind),
            produces: self.produces,
            wants_operator: self.wants_operator,
        };
        self.handler.route_layer(Extension(rules))
    }
}

/// Handlers by their method, for the list of endpoints.
pub(super) use routing::{delete, get, head, post, put};
