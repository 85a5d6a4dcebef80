//! The route that a message takes. The tests of the expression language are beside `route`, in the host.

use serde_json::json;

use crate::LOCKGATE;

/// A gateway whose API has this route selection expression, a `$default` that echoes, and these routes, at which the
/// probe answers with the route's key.
async fn gateway(expression: &str, keys: &[&str]) -> lockgate_tests::Gateway {
    let mut configuration = format!(
        r#"
[apis.a]
route_selection_expression = '{expression}'

[apis.a.stages.s]

[apis.a.routes."$default"]
integration = "echo"
two_way = true

[plugins.echo]
component = "{{echo}}"

[plugins.probe]
component = "{{probe}}"
grants = ["connections", "groups"]
"#
    );
    for key in keys {
        configuration.push_str(&format!(
            "[apis.a.routes.{key:?}]\nintegration = \"probe\"\ntwo_way = true\n"
        ));
    }
    LOCKGATE.serve(&configuration).await
}

/// Checks the route that each message takes: none is `$default`.
async fn check(expression: &str, keys: &[&str], cases: &[(&str, Option<&str>)]) {
    let gateway = gateway(expression, keys).await;
    let mut client = gateway.connect("/s").await;
    for (message, key) in cases {
        client.send(*message).await;
        match key {
            Some(key) => assert_eq!(client.json().await[0]["route"], *key, "{message}"),
            None => client.expect(message).await,
        }
    }
}

#[tokio::test]
async fn action_names_the_route() {
    let keys = [
        "join",
        "5",
        "true",
        "[a, b]",
        "with \"quotes\"",
        "€",
        "join/room",
        "1.5",
    ];
    check(
        "$request.body.action",
        &keys,
        &[
            (
                r#"{"action": "join", "steps": [{"do": "event"}]}"#,
                Some("join"),
            ),
            (
                r#"{"steps": [{"do": "event"}], "other": {"action": "5"}, "action": "join"}"#,
                Some("join"),
            ),
            (
                r#"{"action": "jo\u0069n", "steps": [{"do": "event"}]}"#,
                Some("join"),
            ),
            (
                r#"{"\u0061ction": "join", "steps": [{"do": "event"}]}"#,
                Some("join"),
            ),
            (r#"{"action": 5, "steps": [{"do": "event"}]}"#, Some("5")),
            (
                r#"{"action": 1.5, "steps": [{"do": "event"}]}"#,
                Some("1.5"),
            ),
            (
                r#"{"action": true, "steps": [{"do": "event"}]}"#,
                Some("true"),
            ),
            (
                r#"{"action": ["a", "b"], "steps": [{"do": "event"}]}"#,
                Some("[a, b]"),
            ),
            (
                r#"{"action": "with \"quotes\"", "steps": [{"do": "event"}]}"#,
                Some("with \"quotes\""),
            ),
            (
                r#"{"action": "\u20ac", "steps": [{"do": "event"}]}"#,
                Some("€"),
            ),
            (
                r#"{"action": "join/room", "steps": [{"do": "event"}]}"#,
                Some("join/room"),
            ),
            (r#"{"action": "Join"}"#, None),
            (r#"{"action": "join "}"#, None),
            (r#"{"action": ""}"#, None),
            (r#"{"action": null}"#, None),
            (r#"{"action": {"name": "join"}}"#, None),
            (r#"{"Action": "join"}"#, None),
            (r#"{"body": {"action": "join"}}"#, None),
            ("{}", None),
            ("[]", None),
            ("[{\"action\": \"join\"}]", None),
            ("\"join\"", None),
            ("join", None),
            ("", None),
            (r#"{"action": "join""#, None),
            (r#"{"action": "join"} trailing"#, None),
            (r"{action: 'join'}", None),
        ],
    )
    .await;
}

#[tokio::test]
async fn message_never_selects_a_lifecycle_route() {
    let stage = crate::probe_configuration("", "");
    let gateway = LOCKGATE.serve(&stage).await;
    let mut client = gateway.connect("/s").await;
    for action in ["$connect", "$disconnect", "$default"] {
        client
            .send(json!({"action": action, "steps": [{"do": "event"}]}).to_string())
            .await;
        assert_eq!(client.json().await[0]["route"], "$default");
    }
}

#[tokio::test]
async fn expression_joins_text_and_several_parts_of_the_message() {
    check(
        "${request.body.service}/${request.body.data.action}",
        &["chat/join", "chat/", "/"],
        &[
            (
                r#"{"service": "chat", "data": {"action": "join"}, "steps": [{"do": "event"}]}"#,
                Some("chat/join"),
            ),
            (
                r#"{"service": "chat", "steps": [{"do": "event"}]}"#,
                Some("chat/"),
            ),
            (r#"{"steps": [{"do": "event"}]}"#, Some("/")),
            (r#"{"service": "chat", "data": {"action": "leave"}}"#, None),
        ],
    )
    .await;
}

#[tokio::test]
async fn constant_expression_takes_every_message_to_one_route() {
    check(
        "everything",
        &["everything"],
        &[(r#"[{"do": "event"}]"#, Some("everything"))],
    )
    .await;
}

#[tokio::test]
async fn message_without_a_route_is_forbidden_and_its_client_stays() {
    let configuration = r#"
[apis.a.stages.s]

[apis.a.routes.known]
integration = "probe"
two_way = true

[plugins.probe]
component = "{probe}"
grants = ["connections", "groups"]
"#;
    let gateway = LOCKGATE.serve(configuration).await;
    let mut client = gateway.connect("/s").await;
    let known = json!({"action": "known", "steps": [{"do": "event"}]}).to_string();
    client.send(known.as_str()).await;
    let id = client.json().await[0]["connection"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut requests = Vec::new();
    for message in ["{}", r#"{"action": "unknown"}"#, "no JSON", ""] {
        client.send(message).await;
        let (connection, request) = client.expect_error("Forbidden").await;
        assert_eq!(connection, id);
        assert!(!requests.contains(&request), "a request id twice");
        requests.push(request);
    }
    client.send_binary(vec![0xff]).await;
    client.expect_error("Forbidden").await;
    client.send(known).await;
    assert_eq!(client.json().await[0]["route"], "known");
}

#[tokio::test]
async fn binary_message_takes_the_default_route() {
    let gateway = gateway("$request.body.action", &["join"]).await;
    let mut client = gateway.connect("/s").await;
    client.send_binary(vec![0xff, 0x00]).await;
    assert_eq!(client.binary().await.as_ref(), [0xff, 0x00]);
}

#[tokio::test]
async fn two_apis_are_served_apart() {
    let second = r#"
[apis.b.stages.t]

[apis.b.routes]
"$default" = { integration = "probe", two_way = true }
"#;
    let gateway = LOCKGATE
        .serve(&(crate::probe_configuration("", "") + second))
        .await;
    let mut one = gateway.connect("/s").await;
    let mut other = gateway.connect("/t").await;
    let id = other.id().await;
    for step in [
        json!({"do": "send", "id": id, "text": "x"}),
        json!({"do": "info", "id": id}),
        json!({"do": "attribute", "id": id, "name": "x"}),
        json!({"do": "attributes", "id": id}),
        json!({"do": "set", "id": id, "name": "x", "value": "y"}),
        json!({"do": "join", "group": "g", "id": id}),
        json!({"do": "leave", "group": "g", "id": id}),
        json!({"do": "close", "id": id, "code": 1000, "reason": ""}),
    ] {
        assert_eq!(one.step(step.clone()).await, "gone", "{step}");
    }
    assert_eq!(other.step(json!({"do": "join", "group": "g"})).await, "ok");
    assert_eq!(one.step(json!({"do": "count", "group": "g"})).await, 0);
    assert_eq!(
        one.step(json!({"do": "publish", "group": "g", "text": "x"}))
            .await,
        0
    );
    assert_eq!(other.step(json!({"do": "context"})).await["api"], "b");
}
