//! The Lambda Runtime API, over HTTP.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::rc::Rc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;

use super::pool::{Pool, Work};
use crate::worker::{API_VERSION, RESULT_TOO_LARGE};
use crate::{Failure, PAYLOAD_BYTES_MAX, envelope};

type Reply = Response<Full<Bytes>>;

/// Accepts workers' connections for as long as the pool lives.
pub(super) async fn listen(pool: Rc<Pool>, listener: StdTcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "can not accept a worker's connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let pool = pool.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let pool = pool.clone();
                async move { Ok::<_, Infallible>(answer(&pool, request).await) }
            });
            // An error here is a connection that ended; the worker's process tells the rest.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(pool: &Rc<Pool>, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    // `/WORKER/TOKEN/VERSION/runtime/…`: the address that a worker is given names it.
    let mut parts = path.trim_start_matches('/').splitn(4, '/');
    let (worker, token) = (parts.next(), parts.next());
    let version = parts.next();
    let Some(worker) = worker
        .and_then(|text| text.parse().ok())
        .filter(|worker| pool.is_worker(*worker, token.unwrap_or_default()))
    else {
        return status(StatusCode::FORBIDDEN, "no worker of this platform");
    };
    if version != Some(API_VERSION) {
        return status(StatusCode::NOT_FOUND, "another version of the Runtime API");
    }
    let route: Vec<&str> = parts.next().unwrap_or_default().split('/').collect();
    match (request.method(), &route[..]) {
        (&Method::GET, ["runtime", "invocation", "next"]) => next(pool, worker).await,
        (&Method::POST, ["runtime", "invocation", id, "response"]) => {
            let (id, request) = ((*id).to_owned(), request);
            let result = match body(request).await {
                Ok(document) => envelope::unwrap(&document).map_err(|message| Failure::Function {
                    error_type: "Envelope".to_owned(),
                    message,
                    location: None,
                }),
                Err(failure) => Err(failure),
            };
            finish(pool, worker, &id, result)
        }
        (&Method::POST, ["runtime", "invocation", id, "error"]) => {
            let id = (*id).to_owned();
            let failure = error(request).await;
            finish(pool, worker, &id, Err(failure))
        }
        (&Method::POST, ["runtime", "init", "error"]) => {
            let failure = error(request).await;
            tracing::error!(%failure, "a worker can not start");
            status(StatusCode::ACCEPTED, "")
        }
        _ => status(StatusCode::NOT_FOUND, "no such operation"),
    }
}

async fn next(pool: &Rc<Pool>, worker: u64) -> Reply {
    let Ok(work) = pool.next(worker).await else {
        return status(StatusCode::GONE, "the worker is not needed any more");
    };
    let Work {
        request_id,
        deadline_ms,
        event,
    } = work;
    Response::builder()
        .header("Content-Type", "application/json")
        .header("Lambda-Runtime-Aws-Request-Id", request_id)
        .header("Lambda-Runtime-Deadline-Ms", deadline_ms)
        .header("Lambda-Runtime-Invoked-Function-Arn", "arn:crucial:local")
        .header("Lambda-Runtime-Trace-Id", "Root=local")
        .body(Full::new(event.into()))
        .unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR, ""))
}

fn finish(pool: &Rc<Pool>, worker: u64, id: &str, result: Result<Vec<u8>, Failure>) -> Reply {
    if pool.finish(worker, id, result) {
        status(StatusCode::ACCEPTED, "")
    } else {
        status(StatusCode::BAD_REQUEST, "no such invocation")
    }
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Failure> {
    let limit = envelope::wrapped_len_max(PAYLOAD_BYTES_MAX);
    let collected = Limited::new(request.into_body(), limit).collect().await;
    let whole = collected.map_err(|_| Failure::ResultTooLarge {
        max: PAYLOAD_BYTES_MAX,
    })?;
    Ok(whole.to_bytes())
}

/// An error, in Lambda's words.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ErrorDocument {
    error_type: String,
    error_message: String,
    stack_trace: Vec<String>,
}

async fn error(request: Request<Incoming>) -> Failure {
    let document = match body(request).await {
        Ok(document) => document,
        Err(failure) => return failure,
    };
    let error: ErrorDocument = serde_json::from_slice(&document).unwrap_or_else(|_| ErrorDocument {
        error_type: "Unknown".to_owned(),
        error_message: String::from_utf8_lossy(&document).into_owned(),
        stack_trace: Vec::new(),
    });
    if error.error_type == RESULT_TOO_LARGE {
        return Failure::ResultTooLarge {
            max: PAYLOAD_BYTES_MAX,
        };
    }
    Failure::Function {
        error_type: error.error_type,
        message: error.error_message,
        location: error.stack_trace.into_iter().next(),
    }
}

fn status(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *reply.status_mut() = status;
    reply
}
