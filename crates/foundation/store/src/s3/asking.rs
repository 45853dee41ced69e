//! Requests that `ObjectStore` has not: lists of exact keys, and deleting what has an etag.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use hyper::header::{HeaderValue, IF_MATCH};
use hyper::http::uri::InvalidUri;
use hyper::{Method, StatusCode};
use object_store::client::{HttpRequest, HttpRequestBody, HttpService as _};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer as _};
use object_store::{Error, Result};

use super::Bucket;
use super::list::{self, List, Page};

/// So long a signature is good for.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// An answer that is longer is none: a page of the longest keys, all written with percent signs, has less.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Between one attempt and the next at first, and at most.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Bucket {
    /// A page of the bucket, with the keys as they are.
    ///
    /// # Errors
    /// What the store says, or that it says what cannot be.
    pub async fn list(&self, list: &List<'_>) -> Result<Page> {
        let until = rt::now() + self.limits.retry_within;
        let mut pause = PAUSE;
        for n_left in (0..=self.limits.retries).rev() {
            let options = SignedUrlOptions::new().with_query(list.query());
            match self.ask(Method::GET, &Path::default(), options).await {
                Err(Attempt::Failed(error)) if n_left == 0 || rt::now() >= until => {
                    return Err(error);
                }
                Err(Attempt::Failed(_)) => {
                    let part = u32::try_from(rt::random_u64() % 64).expect("few");
                    tokio::time::sleep(pause * (64 + part) / 128).await;
                    pause = (2 * pause).min(PAUSE_MAX);
                }
                Err(Attempt::Refused(error)) => return Err(error),
                Ok(answer) => return list::parse(&answer, list).map_err(generic),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Asks once to delete what has this etag. A store that does not know this condition deletes whatever is there.
    ///
    /// # Errors
    /// `Precondition`; what else the store says. It may be gone nevertheless, or go later, if it has not answered.
    pub async fn delete_if(&self, path: &Path, etag: &str) -> Result<()> {
        let etag = HeaderValue::from_str(&format!("\"{etag}\"")).map_err(generic)?;
        let options = SignedUrlOptions::new().with_signed_header(IF_MATCH, etag);
        match self.ask(Method::DELETE, path, options).await {
            Ok(_) => Ok(()),
            Err(Attempt::Failed(error) | Attempt::Refused(error)) => Err(error),
        }
    }

    /// Asks once, without a body.
    async fn ask(
        &self,
        method: Method,
        path: &Path,
        options: SignedUrlOptions,
    ) -> std::result::Result<Vec<u8>, Attempt> {
        let headers = options.signed_headers.clone();
        let signed = (self.once).signed_url_opts(method.clone(), path, SIGNED_FOR, &options);
        let url = signed.await.map_err(Attempt::Refused)?;
        let uri = url.as_str().parse();
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method;
        *request.uri_mut() = uri.map_err(|error: InvalidUri| Attempt::Refused(generic(error)))?;
        *request.headers_mut() = headers;
        let failed = |error| Attempt::Failed(generic(error));
        let answer = self.http.call(request).await.map_err(failed)?;
        let status = answer.status();
        let mut pieces = answer.into_body().bytes_stream();
        let mut body = Vec::new();
        while let Some(piece) = pieces.try_next().await.map_err(failed)? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                let what = format!("an answer has more than {ANSWER_BYTES_MAX} bytes");
                return Err(Attempt::Refused(generic(what)));
            }
            body.extend_from_slice(&piece);
        }
        match status {
            _ if status.is_success() => Ok(body),
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(Attempt::Failed(generic(format!("it answers {status}"))))
            }
            _ => Err(Attempt::Refused(refused(path, status, &body))),
        }
    }
}

enum Attempt {
    /// Another one may succeed.
    Failed(Error),
    Refused(Error),
}

fn refused(path: &Path, status: StatusCode, body: &[u8]) -> Error {
    let path = path.to_string();
    let what = match list::code(body) {
        Some(code) => format!("it answers {status}, {code}"),
        None => format!("it answers {status}"),
    };
    let source = what.into();
    match status {
        StatusCode::NOT_FOUND => Error::NotFound { path, source },
        StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => {
            Error::Precondition { path, source }
        }
        StatusCode::FORBIDDEN => Error::PermissionDenied { path, source },
        StatusCode::UNAUTHORIZED => Error::Unauthenticated { path, source },
        _ => Error::Generic {
            store: "S3",
            source,
        },
    }
}

fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic {
        store: "S3",
        source: source.into(),
    }
}
