//! The verification of a token and of a signed request, in this process: the gateway's own code, beside the signature
//! check alone.

use std::collections::BTreeMap;
use std::slice;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::signature::ParsedPublicKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;

use super::directory::{cpu_seconds, round};
use super::{Bench, US};
use crate::auth::jwt::{Keys, Token};
use crate::auth::sigv4::{self, Signature, SignedRequest};
use crate::config::{JwtIssuer, JwtKeys};
use crate::report::{Row, Target};
use crate::sigv4::Signer;
use crate::token::{AUDIENCE, ISSUER, SigningKey};

/// Verifications of one round.
const TIMES: u32 = 5_000;
const SHORT_TIMES: u32 = 20;

/// The processor time that a token may take, and a signed request.
const MOST_OF_TOKEN_US: f64 = 150.0;
const MOST_OF_REQUEST_US: f64 = 60.0;

/// The signed request: a post by the connections API.
const PATH: &str = "/prod/@connections/L0SM9cOFvHcCIhw_";
const HOST: &str = "chat.example.com";
const BODY: &[u8] = &[b'x'; 1_024];

pub(crate) fn verify(bench: &Bench) -> Result<Vec<Row>> {
    let times = if bench.short { SHORT_TIMES } else { TIMES };
    let mut rows = vec![signed_request(bench.rounds, times)?];
    let keys: [(_, &dyn VerificationAlgorithm); 3] = [
        (SigningKey::es256()?, &ECDSA_P256_SHA256_FIXED),
        (SigningKey::rs256()?, &RSA_PKCS1_2048_8192_SHA256),
        (SigningKey::eddsa()?, &ED25519),
    ];
    for (key, algorithm) in keys {
        rows.push(token(&key, algorithm, bench.rounds, times)?);
    }
    Ok(rows)
}

/// A token that an authorizer judges, from its text to the client's identity.
fn token(
    key: &SigningKey,
    algorithm: &'static dyn VerificationAlgorithm,
    rounds: usize,
    times: u32,
) -> Result<Row> {
    let (pem, text) = (key.public_pem()?, key.token()?);
    let rules = rules(key, &pem);
    let keys = Keys::from_pem(slice::from_ref(&pem), &rules.algorithms)?;
    let judge = || {
        let identity = Token::read(&text)?.verify(&rules, &keys, now()?.as_millis() as u64)?;
        ensure!(identity.principal.is_some(), "a token without a subject");
        Ok(())
    };
    let info = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes())?;
    let public = ParsedPublicKey::new(algorithm, &*info)?;
    let (signed, signature) = text.rsplit_once('.').context("a token has parts")?;
    let signature = URL_SAFE_NO_PAD.decode(signature)?;
    let check = || Ok(public.verify_sig(signed.as_bytes(), &signature)?);
    let mut row = Row {
        target: Some(Target::AtMost(MOST_OF_TOKEN_US)),
        ..Row::new(
            format!(
                "verify a token, {}, {} B",
                key.algorithm().name(),
                text.len()
            ),
            US,
            "its signature alone",
        )
    };
    for _ in 0..rounds {
        row.lockgate.push(round(cpu_us(times, judge)?));
        row.reference.push(round(cpu_us(times, check)?));
    }
    Ok(row)
}

fn rules(key: &SigningKey, pem: &str) -> JwtIssuer {
    JwtIssuer {
        issuer: ISSUER.into(),
        keys: JwtKeys::Pem(vec![pem.to_owned()]),
        algorithms: vec![key.algorithm()],
        audience: vec![AUDIENCE.to_owned()],
        audience_claim: "aud".to_owned(),
        require: BTreeMap::new(),
        leeway: Duration::ZERO,
        principal_claim: "sub".to_owned(),
        scope_claims: vec!["scope".to_owned(), "scp".to_owned()],
        scopes: Vec::new(),
        values: vec!["tenant".to_owned()],
    }
}

/// A post that is signed by an access key. Its body is hashed too.
fn signed_request(rounds: usize, times: u32) -> Result<Row> {
    let (id, secret) = ("AKIDBENCH", "a-secret-of-the-bench");
    let mut headers = HeaderMap::new();
    for (name, value) in Signer::new(id, secret).sign("POST", PATH, HOST, BODY) {
        headers.insert(
            HeaderName::from_bytes(name.as_bytes())?,
            HeaderValue::from_str(&value)?,
        );
    }
    let request = SignedRequest {
        method: "POST",
        path: PATH,
        query: "",
        host: HOST,
        headers: &headers,
    };
    // It keeps the derived key of the day, as that of an access key does.
    let key = sigv4::SigningKey::new(secret);
    let judge = || {
        let signature = Signature::read(request)?.context("it is signed")?;
        ensure!(signature.key_id() == id, "another key");
        signature.check_time(now()?.as_secs())?;
        Ok(signature.verify(&key, BODY)?)
    };
    let bare_key = hmac::Key::new(HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&bare_key, BODY);
    let check = || Ok(hmac::verify(&bare_key, BODY, tag.as_ref())?);
    let mut row = Row {
        target: Some(Target::AtMost(MOST_OF_REQUEST_US)),
        ..Row::new(
            format!("verify a signed request (SigV4), {} B", BODY.len()),
            US,
            "an HMAC of its body",
        )
    };
    for _ in 0..rounds {
        row.lockgate.push(round(cpu_us(times, judge)?));
        row.reference.push(round(cpu_us(times, check)?));
    }
    Ok(row)
}

/// The CPU time of one time, in microseconds.
fn cpu_us(times: u32, mut act: impl FnMut() -> Result<()>) -> Result<f64> {
    // The first one derives keys and fills caches.
    act()?;
    let begun = cpu_seconds();
    for _ in 0..times {
        act()?;
    }
    Ok((cpu_seconds() - begun) * 1e6 / f64::from(times))
}

fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}
