//! Keys that are got from an issuer that is good, slow, huge, empty, elsewhere or down.

use std::slice;
use std::time::Duration;

use lockgate_tests::{After, PATIENCE, Registry};
use serde_json::json;
use tokio::time;

use super::*;
use crate::auth::jwt::tests::{EcdsaKeyPair, ec_jwk, ec_key, es256_text, issuer};
use crate::clock::now_ms;
use crate::config::JwtAlgorithm;
use crate::permits::{Permits, Share};

const KEYS: &str = "/keys";

/// An issuer whose keys are at an address of its own.
struct Provider {
    server: Registry,
    key: EcdsaKeyPair,
}

impl Provider {
    async fn start() -> Self {
        let provider = Self {
            server: Registry::start().await,
            key: ec_key(),
        };
        provider.publish("ec");
        provider
    }

    fn address(&self) -> String {
        format!("http://{}", self.server.host())
    }

    /// Publishes the current key under this id, and no other.
    fn publish(&self, id: &str) {
        let set = json!({ "keys": [ec_jwk(id, &self.key)] });
        self.server.put(KEYS, set.to_string().as_bytes());
    }

    fn rules(&self) -> JwtIssuer {
        JwtIssuer {
            issuer: self.address().into(),
            keys: JwtKeys::Url(self.address() + KEYS),
            ..issuer()
        }
    }

    fn authorizer(&self) -> JwtAuthorizer {
        JwtAuthorizer::new(&[self.rules()], &KnownKeys::default())
    }

    /// A token by the current key, under this id.
    fn token(&self, id: &str) -> String {
        self.token_for(id, &self.address())
    }

    fn token_for(&self, id: &str, issuer: &str) -> String {
        let header = json!({ "alg": "ES256", "kid": id }).to_string();
        let exp = now_ms() / 1_000 + 600;
        let claims = json!({ "iss": issuer, "aud": "chat", "sub": "ada", "exp": exp });
        es256_text(&self.key, &header, &claims.to_string())
    }

    fn asked(&self) -> usize {
        self.server.asked().len()
    }
}

async fn admits(authorizer: &JwtAuthorizer, token: &str) {
    let identity = authorizer.authorize(Some(token), Some(&room())).await;
    let identity = identity.unwrap_or_else(|denial| panic!("{denial}"));
    assert_eq!(identity.principal.as_deref(), Some("ada"));
}

/// As [`admits`], once the keys are there that are being got.
async fn admits_soon(authorizer: &JwtAuthorizer, token: &str) {
    let admitted = async {
        while authorizer
            .authorize(Some(token), Some(&room()))
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    let admitted = time::timeout(PATIENCE, admitted).await;
    admitted.expect("it is let in within the time");
}

async fn refuses(authorizer: &JwtAuthorizer, token: &str, expected: &str) {
    let denial = authorizer.authorize(Some(token), Some(&room())).await.err();
    let denial = denial.expect("it is refused").to_string();
    assert!(denial.contains(expected), "{denial}");
}

/// Room for enough that wait.
fn room() -> Share {
    Share::of(&Permits::new(16))
}

/// Lets time pass for the timers, and for no socket.
async fn pass(time: Duration) {
    time::pause();
    time::advance(time).await;
    time::resume();
}

#[tokio::test]
async fn first_handshake_waits_for_the_keys() {
    let provider = Provider::start().await;
    let authorizer = provider.authorizer();
    admits(&authorizer, &provider.token("ec")).await;
    admits(&authorizer, &format!("Bearer {}", provider.token("ec"))).await;
    admits(&authorizer, &format!("bearer  {}", provider.token("ec"))).await;
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn keys_are_discovered() {
    let provider = Provider::start().await;
    let base = provider.address() + "/tenant/";
    let place = "/tenant/.well-known/openid-configuration";
    let rules = JwtIssuer {
        issuer: base.as_str().into(),
        keys: JwtKeys::Discovery(provider.address() + place),
        ..issuer()
    };
    let configuration = |issuer: &str, keys: &str| {
        let configuration = json!({ "issuer": issuer, "jwks_uri": keys });
        provider
            .server
            .put(place, configuration.to_string().as_bytes());
    };
    let token = provider.token_for("ec", &base);
    configuration(&base, &(provider.address() + KEYS));
    admits(
        &JwtAuthorizer::new(slice::from_ref(&rules), &KnownKeys::default()),
        &token,
    )
    .await;
    for (issuer, keys) in [
        // As the configuration of another tenant of the same host.
        (provider.address() + "/other/", provider.address() + KEYS),
        (base.clone(), "http://id.example.com/keys".to_owned()),
        (base.clone(), "file:///etc/keys".to_owned()),
        (base.clone(), String::new()),
    ] {
        configuration(&issuer, &keys);
        let authorizer = JwtAuthorizer::new(slice::from_ref(&rules), &KnownKeys::default());
        refuses(&authorizer, &token, "are not there yet").await;
    }
    provider.server.put(place, b"<html>");
    refuses(
        &JwtAuthorizer::new(&[rules], &KnownKeys::default()),
        &token,
        "are not there yet",
    )
    .await;
}

#[tokio::test]
async fn rotated_key_is_got_once_in_thirty_seconds() {
    let mut provider = Provider::start().await;
    let authorizer = provider.authorizer();
    admits(&authorizer, &provider.token("ec")).await;
    let old = provider.token("ec");
    provider.key = ec_key();
    provider.publish("next");
    let new = provider.token("next");
    // The last attempt is recent: nobody is asked, whatever clients send.
    for _ in 0..100 {
        refuses(&authorizer, &new, "key is not among the issuer's").await;
    }
    admits(&authorizer, &old).await;
    assert_eq!(provider.asked(), 1);
    pass(Duration::from_secs(30)).await;
    admits(&authorizer, &new).await;
    assert_eq!(provider.asked(), 2);
    // A key that is no longer published is nobody's.
    refuses(&authorizer, &old, "key is not among the issuer's").await;
    assert_eq!(provider.asked(), 2);
}

#[tokio::test]
async fn withdrawn_key_counts_no_longer_than_five_minutes() {
    let mut provider = Provider::start().await;
    let authorizer = provider.authorizer();
    let old = provider.token("ec");
    admits(&authorizer, &old).await;
    provider.key = ec_key();
    provider.publish("next");
    pass(Duration::from_secs(300)).await;
    // Waits for the attempt that is under way by now.
    admits(&authorizer, &provider.token("next")).await;
    refuses(&authorizer, &old, "key is not among the issuer's").await;
    assert_eq!(provider.asked(), 2);
}

/// As an issuer does that has to end all its tokens at once: its set has no signing key left.
#[tokio::test]
async fn last_key_is_withdrawn_by_a_set_of_keys_for_something_else() {
    let mut provider = Provider::start().await;
    let authorizer = provider.authorizer();
    let old = provider.token("ec");
    admits(&authorizer, &old).await;
    let mut jwk = ec_jwk("ec", &provider.key);
    jwk["use"] = "enc".into();
    let set = json!({ "keys": [jwk] }).to_string();
    provider.server.put(KEYS, set.as_bytes());
    pass(Duration::from_secs(300)).await;
    // Waits for the attempt that is under way by now.
    refuses(
        &authorizer,
        &provider.token("other"),
        "key is not among the issuer's",
    )
    .await;
    refuses(&authorizer, &old, "key is not among the issuer's").await;
    // Nothing that takes the authorizer's place learns of it.
    assert_eq!(authorizer.known_keys().count(), 0);
    provider.key = ec_key();
    provider.publish("next");
    pass(Duration::from_secs(30)).await;
    admits(&authorizer, &provider.token("next")).await;
    refuses(&authorizer, &old, "key is not among the issuer's").await;
}

/// Gives each answer to a second attempt: the keys that are known stay in use, and others are refused.
#[tokio::test]
async fn known_keys_stay_while_the_issuer_answers_anything_else() {
    let large = format!("{{\"keys\":[],\"filler\":\"{}\"}}", "x".repeat(65 << 10));
    let ok = |body: &str| {
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    for (name, answer) in [
        ("nothing", String::new()),
        ("half a head", "HTTP/1.1 200 O".to_owned()),
        (
            "an error",
            "HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned(),
        ),
        ("no body", ok("")),
        ("no keys", ok("{\"keys\":[]}")),
        ("a page", ok("<html>")),
        ("too much", ok(&large)),
        (
            "too much, without a length",
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{large}"),
        ),
        (
            "less than it says",
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"keys\":[".to_owned(),
        ),
    ] {
        let provider = Provider::start().await;
        let authorizer = provider.authorizer();
        admits(&authorizer, &provider.token("ec")).await;
        provider.server.answer(KEYS, answer, After::Close);
        pass(Duration::from_secs(30)).await;
        refuses(
            &authorizer,
            &provider.token("other"),
            "key is not among the issuer's",
        )
        .await;
        assert_eq!(provider.asked(), 2, "{name}");
        admits(&authorizer, &provider.token("ec")).await;
        // It recovers, once it may be asked again.
        provider.publish("other");
        pass(Duration::from_secs(30)).await;
        admits(&authorizer, &provider.token("other")).await;
    }
}

#[tokio::test]
async fn keys_over_their_bound_are_not_taken() {
    let provider = Provider::start().await;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("keys.json");
    let from_file = JwtIssuer {
        keys: JwtKeys::File(file.clone()),
        ..provider.rules()
    };
    let set = json!({ "keys": [ec_jwk("ec", &provider.key)] }).to_string();
    for (bytes, is_taken) in [(fetch::LONGEST, true), (fetch::LONGEST + 1, false)] {
        let set = set.clone() + &" ".repeat(bytes - set.len());
        provider.server.put(KEYS, set.as_bytes());
        std::fs::write(&file, &set).expect("it can be written");
        let read = fetch::read_file(&file, &from_file);
        assert_eq!(read.is_ok(), is_taken, "{:?}", read.err());
        let (authorizer, token) = (provider.authorizer(), provider.token("ec"));
        match is_taken {
            true => admits(&authorizer, &token).await,
            false => refuses(&authorizer, &token, "are not there yet").await,
        }
    }
}

#[tokio::test]
async fn redirect_of_the_keys_is_not_followed() {
    let (provider, elsewhere) = (Provider::start().await, Provider::start().await);
    for status in [301, 302, 303, 307, 308] {
        let redirect = format!(
            "HTTP/1.1 {status} Moved\r\nLocation: {}{KEYS}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            elsewhere.address()
        );
        provider.server.answer(KEYS, redirect, After::Close);
        refuses(
            &provider.authorizer(),
            &provider.token("ec"),
            "are not there yet",
        )
        .await;
    }
    assert_eq!(elsewhere.asked(), 0);
}

#[tokio::test]
async fn silent_issuer_holds_a_handshake_for_five_seconds() {
    let provider = Provider::start().await;
    provider
        .server
        .answer(KEYS, "HTTP/1.1 200 OK\r\n", After::Silence);
    let authorizer = provider.authorizer();
    let token = provider.token("ec");
    let refused = refuses(&authorizer, &token, "are not there yet");
    let passing = async {
        while provider.asked() == 0 {
            tokio::task::yield_now().await;
        }
        pass(Duration::from_secs(5)).await;
    };
    tokio::join!(refused, passing);
    // It recovers by itself.
    provider.publish("ec");
    pass(Duration::from_secs(1)).await;
    admits_soon(&authorizer, &token).await;
}

#[tokio::test]
async fn handshakes_that_wait_for_keys_of_all_issuers_of_an_authorizer_have_one_bound() {
    let (one, other) = (Provider::start().await, Provider::start().await);
    for provider in [&one, &other] {
        let server = &provider.server;
        server.answer(KEYS, "HTTP/1.1 200 OK\r\n", After::Silence);
    }
    let authorizer = Arc::new(JwtAuthorizer::new(
        &[one.rules(), other.rules()],
        &KnownKeys::default(),
    ));
    let waiting = Permits::new(16);
    let share = Arc::new(Share::of(&waiting));
    let mut refused = tokio::task::JoinSet::new();
    for provider in [&one, &other].repeat(4) {
        let (authorizer, share) = (Arc::clone(&authorizer), Arc::clone(&share));
        let token = provider.token("ec");
        refused.spawn(async move {
            authorizer
                .authorize(Some(&token), Some(&share))
                .await
                .is_err()
        });
    }
    while waiting.taken() < 8 {
        tokio::task::yield_now().await;
    }
    for provider in [&one, &other] {
        let token = provider.token("ec");
        let denial = authorizer.authorize(Some(&token), Some(&share)).await.err();
        assert_eq!(denial.expect("it is refused").status(), 429);
    }
    pass(Duration::from_secs(5)).await;
    while let Some(refused) = refused.join_next().await {
        assert!(refused.expect("it ends"));
    }
    assert_eq!(waiting.taken(), 0);
}

/// As in GHSA-j77h-rr39-c552, where a claim became part of the address.
#[tokio::test]
async fn nobody_is_asked_for_an_issuer_that_is_not_configured() {
    let (provider, forger) = (Provider::start().await, Provider::start().await);
    let authorizer = provider.authorizer();
    admits(&authorizer, &provider.token("ec")).await;
    refuses(&authorizer, &forger.token("ec"), "issuer is not configured").await;
    let header = json!({
        "alg": "ES256", "kid": "x", "jku": forger.address() + KEYS, "x5u": forger.address() + KEYS,
    });
    let exp = now_ms() / 1_000 + 600;
    let claims = json!({ "iss": provider.address(), "aud": "chat", "sub": "ada", "exp": exp });
    let forged = es256_text(&forger.key, &header.to_string(), &claims.to_string());
    pass(Duration::from_secs(30)).await;
    refuses(&authorizer, &forged, "key is not among the issuer's").await;
    assert_eq!((provider.asked(), forger.asked()), (2, 0));
}

/// An authorizer that takes the place of others, while the issuer is down.
#[tokio::test]
async fn known_keys_stay_with_their_issuer_and_place() {
    let (provider, other) = (Provider::start().await, Provider::start().await);
    let before = provider.authorizer();
    let token = provider.token("ec");
    admits(&before, &token).await;
    provider.server.answer(KEYS, "", After::Close);
    let known: KnownKeys = before.known_keys().collect();
    // As they come from the process before an upgrade.
    let known = serde_json::to_vec(&known).expect("it can be written");
    let known: KnownKeys = serde_json::from_slice(&known).expect("it can be read");
    let changed = JwtIssuer {
        leeway: Duration::from_secs(5),
        algorithms: vec![JwtAlgorithm::Rs256, JwtAlgorithm::Es256],
        ..provider.rules()
    };
    let after = JwtAuthorizer::new(&[other.rules(), changed], &known);
    admits(&after, &token).await;
    let elsewhere = JwtIssuer {
        keys: JwtKeys::Url(provider.address() + "/elsewhere"),
        ..provider.rules()
    };
    let other_algorithm = JwtIssuer {
        algorithms: vec![JwtAlgorithm::Rs256],
        ..provider.rules()
    };
    for rules in [elsewhere, other_algorithm] {
        let after = JwtAuthorizer::new(&[rules], &known);
        refuses(&after, &token, "are not there yet").await;
    }
    let of_another = JwtIssuer {
        issuer: other.address().into(),
        ..provider.rules()
    };
    let after = JwtAuthorizer::new(&[of_another], &known);
    let forged = provider.token_for("ec", &other.address());
    refuses(&after, &forged, "are not there yet").await;
}

#[tokio::test]
async fn two_issuers_have_keys_of_their_own() {
    let (one, other) = (Provider::start().await, Provider::start().await);
    let authorizer = JwtAuthorizer::new(&[one.rules(), other.rules()], &KnownKeys::default());
    admits(&authorizer, &one.token("ec")).await;
    admits(&authorizer, &other.token("ec")).await;
    let forged = one.token_for("ec", &other.address());
    refuses(&authorizer, &forged, "signature is wrong").await;
}

#[tokio::test]
async fn changed_file_of_keys_is_read_again() {
    let mut provider = Provider::start().await;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("keys.json");
    let write = |provider: &Provider, id: &str| {
        let set = json!({ "keys": [ec_jwk(id, &provider.key)] }).to_string();
        std::fs::write(&file, set).expect("it can be written");
    };
    write(&provider, "ec");
    let rules = JwtIssuer {
        keys: JwtKeys::File(file.clone()),
        ..provider.rules()
    };
    assert!(check("jwt", slice::from_ref(&rules)).is_empty());
    let authorizer = JwtAuthorizer::new(slice::from_ref(&rules), &KnownKeys::default());
    admits(&authorizer, &provider.token("ec")).await;
    provider.key = ec_key();
    write(&provider, "next");
    pass(Duration::from_secs(2)).await;
    admits_soon(&authorizer, &provider.token("next")).await;
    // A file that is broken changes nothing while it serves, and is found before a start.
    std::fs::write(&file, "{").expect("it can be written");
    pass(Duration::from_secs(2)).await;
    admits(&authorizer, &provider.token("next")).await;
    let faults = check("jwt", &[rules]);
    assert!(
        matches!(&*faults, [fault] if fault.key == "jwt.jwks_file"),
        "{faults:?}"
    );
}

#[tokio::test]
async fn missing_scope_is_no_invalid_token() {
    let provider = Provider::start().await;
    let rules = JwtIssuer {
        scopes: vec!["join".to_owned(), "chat".to_owned()],
        ..provider.rules()
    };
    let authorizer = JwtAuthorizer::new(&[rules], &KnownKeys::default());
    let denial = authorizer
        .authorize(Some(&provider.token("ec")), Some(&room()))
        .await;
    let denial = denial.expect_err("it has no scope");
    assert_eq!(denial.status(), 403);
    let challenge = denial.challenge().expect("there is one");
    assert_eq!(
        challenge,
        "Bearer error=\"insufficient_scope\", scope=\"join chat\""
    );
    let denial = authorizer
        .authorize(None, Some(&room()))
        .await
        .expect_err("there is no token");
    assert_eq!(denial.challenge().expect("there is one"), "Bearer");
}
