//! Real registries: the answers of each, and those that the distribution and the token specification allow.

use lockgate_tests::{Registry, digest};
use serde_json::json;

use crate::oci::{accepted, check, configured, echo, refused, validate};

/// The answers of a registry, by its documentation and by transcripts of its clients.
struct Answers {
    registry: &'static str,
    /// The values of `WWW-Authenticate`, one a header. `HOST` stands for the registry's own address.
    challenges: &'static [&'static str],
    /// The path of the token service, and its answer; none where credentials are enough.
    token: Option<(&'static str, &'static str)>,
    /// Lines in the head of a manifest, and of a layer.
    manifest: &'static str,
    layer: &'static str,
}

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

const REGISTRIES: [Answers; 12] = [
    Answers {
        registry: "Docker Hub",
        challenges: &[
            r#"Bearer realm="http://HOST/token",service="registry.docker.io",scope="repository:team/echo:pull""#,
        ],
        token: Some((
            "/token",
            r#"{"token":"T","access_token":"T","expires_in":300,"issued_at":"2026-11-25T20:00:00.1Z"}"#,
        )),
        manifest: "Content-Type: application/vnd.docker.distribution.manifest.v2+json\r\n\
                   Docker-Distribution-Api-Version: registry/2.0\r\nRateLimit-Remaining: 99;w=21600\r\n",
        layer: "Content-Type: application/octet-stream\r\n",
    },
    Answers {
        registry: "GHCR",
        challenges: &[
            r#"Bearer realm="http://HOST/token",service="ghcr.io",scope="repository:team/echo:pull""#,
        ],
        token: Some(("/token", r#"{"token":"T"}"#)),
        manifest: "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n",
        layer: "",
    },
    Answers {
        registry: "ECR",
        challenges: &[
            r#"Basic realm="https://1.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com""#,
        ],
        token: None,
        manifest: "Content-Type: application/vnd.oci.image.manifest.v1+json; charset=utf-8\r\n",
        layer: "",
    },
    Answers {
        registry: "ECR Public",
        challenges: &[r#"Bearer realm="http://HOST/token/",service="public.ecr.aws",scope="aws""#],
        token: Some(("/token/", r#"{"token":"T"}"#)),
        manifest: "",
        layer: "",
    },
    Answers {
        registry: "Google Artifact Registry",
        challenges: &[
            r#"Bearer realm="http://HOST/v2/token",service="europe-docker.pkg.dev",scope="repository:team/echo:pull""#,
        ],
        token: Some((
            "/v2/token",
            r#"{"expires_in":3600,"issued_at":"2026-11-25T20:00:00Z","token":"T"}"#,
        )),
        manifest: "Content-Type: application/vnd.oci.image.manifest.v1+json; charset=utf-8\r\n",
        layer: "",
    },
    Answers {
        registry: "Azure",
        challenges: &[
            r#"Bearer realm="http://HOST/oauth2/token",service="r.azurecr.io",scope="repository:team/echo:pull",error="invalid_token""#,
            r#"Basic realm="http://HOST""#,
        ],
        token: Some(("/oauth2/token", r#"{"access_token":"T"}"#)),
        manifest: "",
        layer: "",
    },
    Answers {
        registry: "Quay",
        challenges: &[
            r#"Bearer realm="http://HOST/v2/auth",service="quay.io",scope="repository:team/echo:pull""#,
        ],
        token: Some(("/v2/auth", r#"{"token":"T"}"#)),
        manifest: "Content-Type: application/vnd.oci.image.manifest.v1+json; charset=utf-8\r\n",
        layer: "",
    },
    Answers {
        registry: "Harbor",
        challenges: &[
            r#"Bearer realm="http://HOST/service/token",service="harbor-registry",scope="repository:team/echo:pull""#,
        ],
        token: Some((
            "/service/token",
            r#"{"token":"T","access_token":"","expires_in":1800,"issued_at":"2026-11-25T20:00:00Z"}"#,
        )),
        manifest: "",
        layer: "",
    },
    Answers {
        registry: "Zot",
        challenges: &[r#"Basic realm="Authorization Required""#],
        token: None,
        manifest: "",
        layer: "Content-Type: application/wasm\r\n",
    },
    Answers {
        registry: "Zot, with tokens beside credentials",
        challenges: &[
            r#"Basic realm="zot", Bearer realm="http://HOST/token",service="zot",scope="""#,
        ],
        token: Some((
            "/token",
            r#"{"access_token":"T","token":null,"expires_in":"300"}"#,
        )),
        manifest: "",
        layer: "",
    },
    Answers {
        registry: "distribution, with htpasswd",
        challenges: &[r#"Basic realm="Registry Realm""#],
        token: None,
        manifest: "Docker-Content-Digest: sha512:0\r\n",
        layer: "",
    },
    Answers {
        registry: "distribution, where credentials are one way of two",
        challenges: &[
            r#"BASIC realm="Registry Realm""#,
            r#"bearer realm="http://HOST/auth", service="registry""#,
        ],
        token: Some(("/auth", r#"{"access_token":"T","refresh_token":null}"#)),
        manifest: "",
        layer: "",
    },
];

#[tokio::test]
async fn answers_of_real_registries_are_understood() {
    for answers in &REGISTRIES {
        let registry = Registry::start().await;
        let component = registry.push("team/echo", &echo());
        let (_, manifest) = component.split_once('@').unwrap();
        let manifest = format!("/v2/team/echo/manifests/{manifest}");
        registry.add_headers(&manifest, answers.manifest);
        registry.add_headers(
            &format!("/v2/team/echo/blobs/{}", digest(&echo())),
            answers.layer,
        );
        let challenges = answers.challenges.join("\r\nWWW-Authenticate: ");
        let challenges = challenges.replace("HOST", &registry.host());
        let wanted = if let Some((path, answer)) = answers.token {
            registry.grant(path, answer.as_bytes());
            "Bearer T"
        } else {
            "Basic bWU6c2VjcmV0"
        };
        registry.require_as(&challenges, wanted);
        let folder = configured(&registry, &component, "", "");
        let output = validate(&folder, "secret").await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}: {error}",
            answers.registry
        );
        if let Some((path, _)) = answers.token {
            let asked = registry.asked();
            let token = asked.iter().find(|asked| asked.starts_with(path)).unwrap();
            let scope = "?scope=repository%3Ateam%2Fecho%3Apull";
            assert!(token.contains(scope), "{}: {token}", answers.registry);
            // The request names one scope, which is pulling.
            assert_eq!(token.matches("scope").count(), 1, "{token}");
        }
    }
}

/// Only a try tells which challenge of a list works.
#[tokio::test]
async fn next_challenge_is_answered_when_one_is_not_enough() {
    let registry = Registry::start().await;
    let component = registry.push("echo", &echo());
    let challenges = format!(
        "Bearer realm=\"http://{}/token\", Basic realm=\"here\"",
        registry.host()
    );
    registry.require_as(&challenges, "Basic bWU6c2VjcmV0");
    let folder = configured(&registry, &component, "", "");
    for answer in ["{\"token\": \"no good\"}", "{}", "none"] {
        registry.grant("/token", answer.as_bytes());
        accepted(&folder).await;
    }
    // An expired token is replaced.
    let challenge = format!("Bearer realm=\"http://{}/token\"", registry.host());
    registry.require_as(&challenge, "Bearer T");
    registry.grant("/token", b"{\"token\": \"T\"}");
    let blob = format!("/v2/echo/blobs/{}", digest(&echo()));
    let expired = format!(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nConnection: close\r\n\
         Content-Length: 0\r\n\r\n"
    );
    registry.answer_once(&blob, expired);
    accepted(&folder).await;
}

/// A registry behind a proxy may name its repository differently in the scope: that scope is requested, too.
#[tokio::test]
async fn scope_that_a_registry_names_is_requested_if_it_pulls() {
    let registry = Registry::start().await;
    let component = registry.push("team/echo", &echo());
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",scope=\"repository:kept/echo:pull repository:other:pull,push registry:catalog:*\"",
        registry.host()
    );
    registry.require_as(&challenge, "Bearer T");
    registry.grant("/token", b"{\"token\": \"T\"}");
    accepted(&configured(&registry, &component, "", "")).await;
    let scopes =
        "/token?scope=repository%3Ateam%2Fecho%3Apull&scope=repository%3Akept%2Fecho%3Apull";
    assert!(
        registry.asked().contains(&scopes.to_owned()),
        "{:?}",
        registry.asked()
    );
}

#[tokio::test]
async fn registry_that_answers_429_is_asked_again() {
    let registry = Registry::start().await;
    let component = registry.push("echo", &echo());
    let challenge = format!("Bearer realm=\"http://{}/token\"", registry.host());
    registry.require_as(&challenge, "Bearer T");
    registry.grant("/token", b"{\"token\": \"T\"}");
    let later = |status: &str, after: &str| {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow\u001b[2J down"}]}"#;
        format!(
            "HTTP/1.1 {status}\r\n{after}Content-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let blob = format!("/v2/echo/blobs/{}", digest(&echo()));
    registry.answer_once(
        "/token",
        later("429 Too Many Requests", "Retry-After: 1\r\n"),
    );
    registry.answer_once(
        &blob,
        later("503 Service Unavailable", "Retry-After: 0\r\n"),
    );
    // A date in the past.
    let date = "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n";
    registry.answer_once(&blob, later("429 Too Many Requests", date));
    let folder = configured(&registry, &component, "limits = { pull_s = 30 }", "");
    accepted(&folder).await;
    assert_eq!(
        registry
            .asked()
            .iter()
            .filter(|path| **path == blob)
            .count(),
        3
    );

    // A wait longer than a pull may take, and an answer without one.
    registry.answer_once(
        &blob,
        later("429 Too Many Requests", "Retry-After: 3600\r\n"),
    );
    refused(
        &folder,
        "wants to be asked again in 3600 s, which is longer than limits.pull_s waits",
    )
    .await;
    registry.answer_once(
        &blob,
        later(
            "429 Too Many Requests",
            "Retry-After: 18446744073709551615\r\n",
        ),
    );
    refused(&folder, "wants to be asked again in").await;
    registry.answer_once(&blob, later("429 Too Many Requests", ""));
    let said = "turns requests away: TOOMANYREQUESTS: slow\\u{1b}[2J down";
    refused(&folder, said).await;
    registry.answer_once(&blob, later("503 Service Unavailable", ""));
    refused(
        &folder,
        "it answers 503 Service Unavailable: TOOMANYREQUESTS",
    )
    .await;
}

#[tokio::test]
async fn error_text_of_a_registry_is_passed_on() {
    let registry = Registry::start().await;
    let component = registry.push("echo", &echo());
    let (_, manifest) = component.split_once('@').unwrap();
    let path = format!("/v2/echo/manifests/{manifest}");
    let error = |status: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let unknown = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#;
    let denied =
        r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    let long = format!("{{\"message\":\"{}\"}}", "x".repeat(5_000));
    for (status, body, said) in [
        (
            "404 Not Found",
            unknown,
            ": MANIFEST_UNKNOWN: manifest unknown\n",
        ),
        ("404 Not Found", "<html>", &*format!("{manifest}\n")),
        (
            "403 Forbidden",
            denied,
            "wants some: DENIED: requested access",
        ),
        ("500 Oops", &long, &*format!("Error: {}\n", "x".repeat(200))),
    ] {
        registry.answer_once(&path, error(status, body));
        check(&registry, &component, said).await;
    }
}

#[tokio::test]
async fn index_is_refused_with_its_contents() {
    let registry = Registry::start().await;
    let (one, other) = (digest(b"one"), digest(b"other"));
    let manifest = |digest: &str| json!({"digest": digest, "size": 2, "mediaType": OCI});
    for kind in [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ] {
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [manifest(&one), manifest(&other)]});
        let index = index.to_string();
        let path = format!("/v2/echo/manifests/{}", digest(index.as_bytes()));
        registry.put(&path, index.as_bytes());
        let component = format!(
            "oci://{}/echo@{}",
            registry.host(),
            digest(index.as_bytes())
        );
        let said = format!("it is an index of 2 images, among them {one}, {other}");
        check(&registry, &component, &said).await;
    }
    // A layer's type is the same in capitals and with a parameter; a manifest has one of two types.
    let layer = json!({"mediaType": "Application/WASM; v=1", "digest": digest(&echo()), "size": echo().len()});
    for kind in [OCI, DOCKER] {
        let manifest =
            json!({"schemaVersion": 2, "mediaType": kind, "layers": [layer]}).to_string();
        registry.put(&format!("/v2/echo/blobs/{}", digest(&echo())), &echo());
        registry.put(
            &format!("/v2/echo/manifests/{}", digest(manifest.as_bytes())),
            manifest.as_bytes(),
        );
        let component = format!(
            "oci://{}/echo@{}",
            registry.host(),
            digest(manifest.as_bytes())
        );
        accepted(&configured(&registry, &component, "", "")).await;
    }
}
