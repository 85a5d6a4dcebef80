//! Signatures that are refused, each with its fault.

use super::super::{MAX_SKEW_S, SignatureFault};
use super::{KEY_ID, Recorded, SECRET, SERVICE, SigningKey, of_clients};

/// A request that boto3 posts, signed by header without a hash of the body.
fn posted() -> String {
    find("boto3", "POST ")
}

/// A handshake that awscrt presigned.
fn presigned() -> String {
    find("awscrt", "GET /prod?X-Amz-Algorithm")
}

fn find(client: &str, start: &str) -> String {
    let mut requests = of_clients().into_iter();
    let found = requests.find(|(by, text)| by == client && text.starts_with(start.as_bytes()));
    String::from_utf8(found.unwrap().1).unwrap()
}

#[track_caller]
fn check(request: &str, (before, after): (&str, &str), fault: SignatureFault) {
    assert!(request.contains(before), "{before:?} is not in\n{request}");
    let changed = request.replacen(before, after, 1);
    let changed = Recorded::parse(changed.as_bytes()).unwrap();
    let verified = changed.verify(SERVICE, (KEY_ID, &SigningKey::new(SECRET)));
    assert_eq!(verified, Err(fault), "{before:?} became {after:?}");
}

#[test]
fn malformed_signature_names_its_fault() {
    let malformed = |before: &str, after: &str, fault| {
        check(&posted(), (before, after), SignatureFault::Malformed(fault));
    };
    malformed("Authorization:", "Other:", "no signature");
    malformed("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1", "no signature");
    malformed(
        "Credential=",
        "Other=",
        "Authorization has a part that is not known",
    );
    malformed(
        ", Signature=",
        ", Signature=00, Signature=",
        "a part occurs twice",
    );
    malformed(
        "Credential=",
        "Signature=00, Credential=",
        "a part occurs twice",
    );
    malformed(
        "Authorization:",
        "Authorization: AWS4-HMAC-SHA256 a=b\nAuthorization:",
        "Authorization occurs twice",
    );
    malformed(
        "X-Amz-Date:",
        "X-Amz-Date: 20150830T123600Z\nX-Amz-Date:",
        "x-amz-date occurs twice",
    );
    malformed("X-Amz-Date:", "Date:", "no date");
    malformed("/execute-api/", "/s3/", "the Credential");
    malformed("/aws4_request", "/aws4_other", "the Credential");
    malformed("/eu-central-1/", "/eu/central-1/", "the Credential");
    malformed(
        "SignedHeaders=host;x-amz-date",
        "SignedHeaders=x-amz-date;host",
        "SignedHeaders are not sorted names in lower case",
    );
    malformed(
        "SignedHeaders=host;x-amz-date",
        "SignedHeaders=host;host;x-amz-date",
        "SignedHeaders are not sorted names in lower case",
    );
    malformed(
        "SignedHeaders=host;x-amz-date",
        "SignedHeaders=",
        "SignedHeaders are not sorted names in lower case",
    );
    malformed(
        "SignedHeaders=host;x-amz-date",
        "SignedHeaders=x-amz-date",
        "the Host is not signed",
    );
    malformed(
        "SignedHeaders=host;x-amz-date",
        "SignedHeaders=host",
        "an x-amz- header is not signed",
    );
    malformed(
        "SignedHeaders=host;",
        "SignedHeaders=absent;host;",
        "a signed header is not there",
    );
    malformed(
        "\n\n",
        "\nX-Amz-Other: 1\n\n",
        "an x-amz- header is not signed",
    );
    malformed(
        "\n\n",
        "\nX-Amz-Content-Sha256: UNSIGNED-PAYLOAD\n\n",
        "an x-amz- header is not signed",
    );
    malformed(
        "%3D HTTP",
        "%3D?X-Amz-Algorithm=AWS4-HMAC-SHA256 HTTP",
        "it stands in a header and in the query",
    );
}

#[test]
fn malformed_presigned_query_names_its_fault() {
    let malformed = |before: &str, after: &str, fault| {
        check(
            &presigned(),
            (before, after),
            SignatureFault::Malformed(fault),
        );
    };
    malformed(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256",
        "X-Amz-Algorithm=AWS4",
        "the algorithm is not AWS4-HMAC-SHA256",
    );
    malformed("X-Amz-Algorithm=", "Algorithm=", "no X-Amz-Algorithm");
    malformed(
        "X-Amz-Expires=300",
        "X-Amz-Expires=0",
        "X-Amz-Expires is not 1 to 604800",
    );
    malformed(
        "X-Amz-Expires=300",
        "X-Amz-Expires=604801",
        "X-Amz-Expires is not 1 to 604800",
    );
    malformed(
        "X-Amz-Expires=300",
        "X-Amz-Expires=%2B300",
        "X-Amz-Expires is not 1 to 604800",
    );
    malformed("X-Amz-Expires=300", "e=300", "no X-Amz-Expires");
    malformed(
        "X-Amz-Expires=300",
        "X-Amz-Expires=300&X-Amz-Expires=300",
        "a part occurs twice",
    );
    malformed(
        "X-Amz-Expires=300",
        "X-Amz-Expires=300&X-Amz-O=1&X-Amz-O=1",
        "a part occurs twice",
    );
    malformed("X-Amz-Expires=300", "X-Amz-Expires=300&&", "the query");
    malformed("X-Amz-Expires=300", "X-Amz-Expires=300&a=%zz", "the query");
    malformed("X-Amz-Expires=300", "X-Amz-Expires=300&a=b+c", "the query");
}

#[test]
fn signature_of_another_request_is_a_mismatch() {
    let changes = [
        ("POST ", "PUT "),
        ("/prod/", "/prod//"),
        ("/prod/", "/Prod/"),
        ("@connections", "%40connections"),
        ("%3D HTTP", "= HTTP"),
        ("%3D HTTP", "%3D?a=b HTTP"),
        ("host: 127.0.0.1", "host: 127.0.0.2"),
        ("/eu-central-1/", "/eu-central-2/"),
        ("\n\n", "\n\nx"),
    ];
    for (before, after) in changes {
        let request = posted().replace("Host:", "host:");
        check(&request, (before, after), SignatureFault::Mismatch);
    }
}

#[test]
fn body_of_another_hash_than_declared_is_refused() {
    let request = find("AWS SDK for JavaScript", "POST ");
    check(&request, ("\n\n", "\n\nx"), SignatureFault::OtherBody);
    let hash = SignatureFault::Malformed("x-amz-content-sha256 is not the SHA-256 of a body");
    check(
        &request,
        ("x-amz-content-sha256: ", "x-amz-content-sha256: 0"),
        hash,
    );
}

#[test]
fn signature_counts_for_five_minutes_around_its_time() {
    let request = Recorded::parse(posted().as_bytes()).unwrap();
    let signature = request.read(SERVICE).unwrap().unwrap();
    let time = signature.time;
    for (now, expected) in [
        (time - MAX_SKEW_S - 1, Err(SignatureFault::Early)),
        (time - MAX_SKEW_S, Ok(())),
        (time, Ok(())),
        (time + MAX_SKEW_S, Ok(())),
        (time + MAX_SKEW_S + 1, Err(SignatureFault::Expired)),
    ] {
        assert_eq!(signature.check_time(now), expected);
    }
}

#[test]
fn presigned_request_counts_for_seven_days_at_most() {
    let longest = presigned().replace("X-Amz-Expires=300", "X-Amz-Expires=604800");
    let request = Recorded::parse(longest.as_bytes()).unwrap();
    let signature = request.read(SERVICE).unwrap().unwrap();
    let end = signature.time + 604_800;
    assert_eq!(signature.check_time(end), Ok(()));
    assert_eq!(signature.check_time(end + 1), Err(SignatureFault::Expired));
    let longer = presigned().replace("X-Amz-Expires=300", "X-Amz-Expires=604801");
    let request = Recorded::parse(longer.as_bytes()).unwrap();
    assert!(request.read(SERVICE).is_err());
}

#[test]
fn presigned_request_counts_until_it_expires() {
    let text = presigned().replace("X-Amz-Expires=300", "X-Amz-Expires=7");
    let request = Recorded::parse(text.as_bytes()).unwrap();
    let signature = request.read(SERVICE).unwrap().unwrap();
    let time = signature.time;
    for (now, expected) in [
        (time - MAX_SKEW_S - 1, Err(SignatureFault::Early)),
        (time - MAX_SKEW_S, Ok(())),
        (time + 7, Ok(())),
        (time + 8, Err(SignatureFault::Expired)),
    ] {
        assert_eq!(signature.check_time(now), expected);
    }
}

#[test]
fn kept_key_is_of_one_region() {
    let key = SigningKey::new(SECRET);
    let requests = [posted(), presigned(), posted()];
    for request in requests {
        let request = Recorded::parse(request.as_bytes()).unwrap();
        assert_eq!(request.verify(SERVICE, (KEY_ID, &key)), Ok(()));
    }
}
