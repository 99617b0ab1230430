//! Which queries there are: what the document does not name is refused, on every route, as an unknown field of a
//! body is. Put before all routes by `openapi`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use crate::error::ApiError;

/// The names that a query can have, for each operation.
#[derive(Debug)]
pub(crate) struct Known(HashMap<(Method, String), HashSet<String>>);

impl Known {
    pub(crate) fn of(document: &OpenApi) -> Self {
        let mut known = HashMap::new();
        for (path, item) in &document.paths.paths {
            let operations = [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::DELETE, &item.delete),
            ];
            for (method, operation) in operations {
                let names = operation.as_ref().map(names);
                known.extend(names.map(|names| ((method, path.clone()), names)));
            }
        }
        Known(known)
    }

    /// Whether the operation knows all names in a query.
    fn check(&self, method: &Method, path: &str, query: &str) -> Result<(), ApiError> {
        // What can be read can be asked about, too.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let known = self.0.get(&(method.clone(), path.to_owned()));
        let is_known = |name: &String| known.is_some_and(|names| names.contains(name));
        let asked: Vec<(String, String)> = serde_html_form::from_str(query)
            .map_err(|error| ApiError::bad(format!("the query can't be used: {error}")))?;
        match asked.into_iter().find(|(name, _)| !is_known(name)) {
            None => Ok(()),
            Some((name, _)) => {
                Err(ApiError::bad(format!("the query can't be used: unknown field `{name}`")))
            }
        }
    }
}

fn names(operation: &Operation) -> HashSet<String> {
    let in_query = |parameter: &RefOr<Parameter>| match parameter {
        RefOr::T(one) if one.parameter_in == ParameterIn::Query => Some(one.name.clone()),
        _ => None,
    };
    operation.parameters.iter().flatten().filter_map(in_query).collect()
}

/// Lets a request through whose query the operation knows.
pub(crate) async fn check(
    State(known): State<Arc<Known>>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let query = request.uri().query().unwrap_or_default();
    known.check(request.method(), path.as_str(), query)?;
    Ok(next.run(request).await)
}
