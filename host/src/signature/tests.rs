//! Trusted and untrusted signatures; no byte of either file can be changed.

use std::time::Duration;

use time::OffsetDateTime;

use super::{PrivateKey, PublicKey, Signature, Trust, Untrusted};

const COMPONENT: &[u8] = &[0x5a; 4_096];

fn key() -> PrivateKey {
    PrivateKey::generate().expect("there are random numbers")
}

fn trust(keys: &[&PrivateKey], min_version: u32) -> Trust {
    Trust {
        keys: keys.iter().map(|key| public(key)).collect(),
        min_version,
        max_age: None,
    }
}

fn public(key: &PrivateKey) -> PublicKey {
    key.public().expect("it has a public half")
}

fn sign(key: &PrivateKey, version: u32) -> Vec<u8> {
    let signature = Signature::new(COMPONENT, version, key).expect("it can be signed");
    signature.to_text().into_bytes()
}

#[test]
fn component_signed_by_a_trusted_key_is_trusted() {
    let (mine, other) = (key(), key());
    let file = sign(&mine, 3);
    let signature = trust(&[&other, &mine], 3)
        .check(COMPONENT, &file)
        .expect("it is signed");
    assert_eq!(
        (signature.version, &*signature.key),
        (3, public(&mine).id())
    );
    let unknown = trust(&[&other], 0).check(COMPONENT, &file);
    assert_eq!(
        unknown,
        Err(Untrusted::UnknownKey(public(&mine).id().to_owned()))
    );
    assert!(matches!(
        trust(&[], 0).check(COMPONENT, &file),
        Err(Untrusted::UnknownKey(_))
    ));
}

#[test]
fn version_below_the_oldest_is_not_trusted() {
    let key = key();
    let refused = trust(&[&key], 4).check(COMPONENT, &sign(&key, 3));
    assert_eq!(
        refused,
        Err(Untrusted::OldVersion {
            version: 3,
            oldest: 4
        })
    );
}

#[test]
fn signature_expires_after_its_max_age() {
    let key = key();
    let day = Duration::from_secs(86_400);
    let file = |age: Duration| {
        let at = (OffsetDateTime::now_utc() - age)
            .replace_nanosecond(0)
            .expect("0 is in range");
        let signature = Signature::signed_at(COMPONENT, 1, &key, at).expect("it can be signed");
        signature.to_text().into_bytes()
    };
    let trust = Trust {
        max_age: Some(2 * day),
        ..trust(&[&key], 0)
    };
    assert!(trust.check(COMPONENT, &file(day)).is_ok());
    assert!(matches!(
        trust.check(COMPONENT, &file(3 * day)),
        Err(Untrusted::Expired { days: 2, .. })
    ));
}

/// A statement of the signer, put in the place of another.
#[test]
fn exchanged_statement_is_not_trusted() {
    let (mine, other) = (key(), key());
    let trust = trust(&[&mine, &other], 0);
    let file = String::from_utf8(sign(&mine, 3)).expect("it is text");
    #[track_caller]
    fn check(trust: &Trust, file: &str, expected: &Untrusted) {
        assert_eq!(
            trust.check(COMPONENT, file.as_bytes()).as_ref(),
            Err(expected)
        );
    }
    check(
        &trust,
        &file.replace("version = 3", "version = 4"),
        &Untrusted::Forged,
    );
    check(
        &trust,
        &file.replace(public(&mine).id(), public(&other).id()),
        &Untrusted::Forged,
    );
    let signature = Signature::parse(file.as_bytes()).expect("it is well written");
    check(
        &trust,
        &file.replace(&signature.digest, &super::digest_of(b"other")),
        &Untrusted::Forged,
    );
    let changed = Untrusted::Malformed("its text was changed".into());
    check(&trust, &(file.clone() + "\n"), &changed);
    check(
        &trust,
        &file.replace("signature 1", "signature 2"),
        &changed,
    );
    check(&trust, &file.replace(" = ", "="), &changed);
    let other = trust.check(b"other", file.as_bytes());
    assert!(matches!(other, Err(Untrusted::OtherComponent { .. })));
}

/// A small generator of numbers, the same ones each time.
fn numbers() -> impl Iterator<Item = usize> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).expect("31 bits")
    })
}

#[test]
fn component_or_signature_with_a_flipped_bit_is_not_trusted() {
    let key = key();
    let trust = trust(&[&key], 0);
    let file = sign(&key, 7);
    assert!(trust.check(COMPONENT, &file).is_ok());
    let flipped = |bytes: &[u8], bit: usize| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    };
    for bit in numbers().take(1_000) {
        let component = flipped(COMPONENT, bit % (COMPONENT.len() * 8));
        assert!(trust.check(&component, &file).is_err(), "component, {bit}");
    }
    for bit in numbers().take(1_000) {
        let file = flipped(&file, bit % (file.len() * 8));
        assert!(trust.check(COMPONENT, &file).is_err(), "signature, {bit}");
    }
    // A signature file has few more bits than that, so all of them are flipped.
    for bit in 0..file.len() * 8 {
        assert!(trust.check(COMPONENT, &flipped(&file, bit)).is_err());
    }
}

#[test]
fn keys_are_read_as_written_and_other_files_refused() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).expect("the folder can be written");
        path
    };
    let mine = key();
    let private = path("k.pem", &mine.to_pem().expect("it can be written"));
    let half = path("k.pub.pem", &public(&mine).to_pem());
    let read = PrivateKey::read(&private).expect("it is a key");
    let file = sign(&read, 1);
    let trust = Trust {
        keys: vec![PublicKey::read(&half).expect("it is a key")],
        min_version: 0,
        max_age: None,
    };
    assert!(trust.check(COMPONENT, &file).is_ok());

    let said = |error: anyhow::Error| format!("{error:#}");
    let swapped = said(PublicKey::read(&private).expect_err("it is private"));
    assert!(swapped.ends_with("holds no public key in PEM, but a private one"));
    let swapped = said(PrivateKey::read(&half).err().expect("it is public"));
    assert!(swapped.contains("holds no private key in PEM"), "{swapped}");
    let none = said(PublicKey::read(&folder.path().join("none")).expect_err("no file"));
    assert!(none.contains("none cannot be read: "), "{none}");
    // No part of a file is ignored in silence.
    let (first, second) = (public(&mine).to_pem(), public(&key()).to_pem());
    let two = said(PublicKey::read(&path("two.pem", &(first.clone() + &second))).expect_err("two"));
    assert!(
        two.contains("holds 2 keys or certificates, and is to hold one key"),
        "{two}"
    );
    assert!(PublicKey::read(&path("bom.pem", &format!("\u{feff}{first}"))).is_ok());
    let encrypted = path(
        "e.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAQID\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let encrypted = said(PrivateKey::read(&encrypted).err().expect("it is encrypted"));
    assert!(encrypted.contains("holds an encrypted key"), "{encrypted}");
    // `openssl genpkey -algorithm ed25519`, and a P-256 key.
    let openssl = path(
        "o.pem",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n",
    );
    assert!(PrivateKey::read(&openssl).is_ok());
    let p256 = path(
        "p.pem",
        "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYD54V/vp+54P9DXarYqx4MPcm+HK\nRIQzNasYSoRQHQ/6S6Ps8tpMcT+KvIIC8W/e9k0W7Cm72M1P9jU7SLf/vg==\n-----END PUBLIC KEY-----\n",
    );
    let other = said(PublicKey::read(&p256).expect_err("it is of another kind"));
    assert!(other.contains("holds no ed25519 key"), "{other}");
}
