//! The description of the management API (OpenAPI 3.1), for programs that make clients of it.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};

/// The document. Tests compare it with the routes that are served.
const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::DOCUMENT;

    #[test]
    fn each_route_that_is_served_is_described_and_no_other() {
        let code: String = include_str!("mod.rs").split_whitespace().collect();
        let routes = code.split(".route(\"").skip(1).map(|rest| {
            let (path, rest) = rest.split_once("\",").expect("a path comes first");
            let (method, _) = rest.split_once('(').expect("a method follows");
            format!("{method} {path}")
        });
        // The fallback of the router, which finds the stage by itself.
        let connections = ["delete", "get", "post"]
            .map(|method| format!("{method} /{{stage}}/@connections/{{id}}"));
        let document: Value = serde_json::from_str(DOCUMENT).expect("it is JSON");
        let paths = document["paths"].as_object().expect("there are paths");
        let described = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("there are methods");
            methods.keys().map(move |method| format!("{method} {path}"))
        });
        assert_eq!(
            routes.chain(connections).collect::<BTreeSet<_>>(),
            described.collect::<BTreeSet<_>>()
        );
    }

    /// The document names no schema that it does not have.
    #[test]
    fn each_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(DOCUMENT).expect("it is JSON");
        let references = DOCUMENT.split("\"$ref\": \"#").skip(1);
        let references = references.filter_map(|rest| rest.split_once('"'));
        let mut count = 0;
        for (reference, _) in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
            count += 1;
        }
        assert!(count > 10, "{count}");
    }
}
