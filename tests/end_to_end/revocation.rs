//! Revocation lists of mutual TLS: which ones a gateway takes, and whom they keep out.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, SerialNumber,
};

use crate::LOCKGATE;
use crate::client_certificates::{
    Asking, Authority, ClientIdentity, authority, issue, params, revocation_list, write,
};

/// An authority of this name between a root and its clients.
fn intermediate(name: &str, root: &Authority, serial: u64) -> Authority {
    let usages = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    intermediate_for(&usages, name, root, serial)
}

fn intermediate_for(
    usages: &[KeyUsagePurpose],
    name: &str,
    root: &Authority,
    serial: u64,
) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = usages.to_vec();
    Authority::signed_by(params, KeyPair::generate().unwrap(), root).unwrap()
}

fn issue_between(authority: &Authority, serial: u64) -> ClientIdentity {
    let mut identity = issue(authority, &params(serial));
    identity.chain.push(authority.der().clone());
    identity
}

/// Asks clients for certificates, with this list beside the authority's certificate.
async fn asking(authority: &Authority, list: &str) -> (Asking, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.pem");
    write(&file, list);
    let asking = Asking::by(authority, &format!(", crl = {file:?}"), "").await;
    (asking, folder)
}

/// One that is taken would refuse every client, or those of one key.
#[tokio::test]
async fn list_that_counts_for_nobody_is_refused_and_changes_nothing() {
    let ca = authority("clients");
    let (asking, folder) = asking(&ca, &revocation_list(&ca, &[9])).await;
    let [good, revoked] = [10, 9].map(|serial| asking.client(Some(&issue(&ca, &params(serial)))));
    let (rekeyed, between) = (authority("clients"), intermediate("between", &ca, 2));
    let unfit = intermediate_for(&[KeyUsagePurpose::KeyCertSign], "unfit", &ca, 4);
    let list = |authority: &Authority| revocation_list(authority, &[]);
    let signed_anew = "authority's key has not signed it";
    let cases = [
        (ca.pem(), list(&rekeyed), signed_anew),
        (
            ca.pem(),
            list(&ca) + &list(&rekeyed),
            "and so is the X509 CRL in line 1",
        ),
        (
            ca.pem(),
            list(&ca) + &list(&ca),
            "only one of them would count",
        ),
        (
            ca.pem(),
            list(&authority("others")),
            "no certificate of that authority",
        ),
        (ca.pem(), list(&ca) + &list(&between), "put that into"),
        (
            ca.pem(),
            list(&ca) + &between.pem() + &list(&intermediate("between", &ca, 3)),
            signed_anew,
        ),
        (
            ca.pem() + &rekeyed.pem(),
            list(&ca),
            "clients of the other key would be refused",
        ),
        (
            ca.pem() + &rekeyed.pem(),
            list(&rekeyed) + &list(&ca),
            "clients of the other key would be refused",
        ),
        (
            ca.pem(),
            list(&ca) + &unfit.pem(),
            "may not sign revocation lists",
        ),
        (ca.pem(), between.pem(), "has no section BEGIN X509 CRL"),
    ];
    let configuration = asking.gateway.folder().join("gateway.toml");
    let (ca_file, list_file) = (asking.file("ca.pem"), folder.path().join("list.pem"));
    for (nth, (authorities, lists, told)) in cases.into_iter().enumerate() {
        write(&ca_file, &authorities);
        write(&list_file, &lists);
        let words = ["validate", configuration.to_str().unwrap()];
        let ended = LOCKGATE.run(&words).await;
        assert_eq!(ended.code, Some(1), "{told}: {}", ended.error);
        for part in [told, "listeners[0].client_certificates.crl", "remedy: "] {
            assert!(ended.error.contains(part), "{part}: {}", ended.error);
        }
        assert!(
            ended.error.contains(list_file.to_str().unwrap()),
            "{}",
            ended.error
        );
        let (status, body) = asking.gateway.post("/reload", "{}").await;
        assert_eq!(status, 422, "{nth}: {body}");
        assert!(body.contains(told), "{body}");
        assert!(asking.connect(&good).await.is_ok(), "{told}");
        assert_eq!(asking.connect(&revoked).await, Err(None), "{told}");
    }
    // The watcher takes it no more than the commands do, and says so.
    write(&ca_file, &ca.pem());
    write(&list_file, &list(&rekeyed));
    asking
        .gateway
        .log()
        .line(&["WARN", "list.pem", signed_anew])
        .await;
    assert!(asking.connect(&good).await.is_ok());
    // Nor does a start.
    let words = ["run", configuration.to_str().unwrap()];
    let ended = LOCKGATE.run(&words).await;
    assert_eq!(ended.code, Some(1), "{}", ended.error);
    assert!(ended.error.contains(signed_anew), "{}", ended.error);
}

#[tokio::test]
async fn revoked_intermediate_authority_lets_nobody_in() {
    let root = authority("clients");
    let [good, revoked] =
        [(2, "good"), (3, "revoked")].map(|(n, name)| intermediate(name, &root, n));
    let lists = |of_root: &[u64]| {
        revocation_list(&root, of_root)
            + &good.pem()
            + &revocation_list(&good, &[9])
            + &revocation_list(&revoked, &[])
            + &revoked.pem()
    };
    let (asking, folder) = asking(&root, &lists(&[3])).await;
    let of_revoked = asking.client(Some(&issue_between(&revoked, 10)));
    assert_eq!(asking.connect(&of_revoked).await, Err(None));
    let own = asking.client(Some(&issue_between(&good, 9)));
    assert_eq!(asking.connect(&own).await, Err(None));
    let of_good = asking.client(Some(&issue_between(&good, 10)));
    assert!(asking.connect(&of_good).await.is_ok());
    assert!(
        asking
            .connect(&asking.client(Some(&issue(&root, &params(10)))))
            .await
            .is_ok()
    );
    // One that is revoked while it serves: new clients, and those that resume a session.
    let file = folder.path().join("list.pem");
    asking.replace(&file, &lists(&[2, 3]), 0).await;
    assert_eq!(asking.connect(&of_good).await, Err(None));
}

/// TLS trusts those in `ca` without a look at any list: files with the whole chain are common there.
#[tokio::test]
async fn revoked_authority_lets_nobody_in_also_if_it_stands_in_ca() {
    let root = authority("clients");
    let between = intermediate("between", &root, 2);
    let below = intermediate("below", &between, 3);
    let own = revocation_list(&between, &[]) + &revocation_list(&below, &[]);
    let lists = |of_root: &[u64]| {
        let certificates = root.pem() + &between.pem() + &below.pem();
        revocation_list(&root, of_root) + &own + &certificates
    };
    let (asking, folder) = asking(&root, &lists(&[])).await;
    let (ca_file, list_file) = (asking.file("ca.pem"), folder.path().join("list.pem"));
    let chain = root.pem() + &between.pem() + &below.pem();
    asking.replace(&ca_file, &chain, 0).await;
    let of_root = asking.client(Some(&issue(&root, &params(10))));
    let clients = [&between, &below].map(|authority| {
        let (alone, shows_it) = (issue(authority, &params(10)), issue_between(authority, 10));
        [alone, shows_it].map(|identity| asking.client(Some(&identity)))
    });
    let clients = clients.as_flattened();
    for client in clients {
        assert!(asking.connect(client).await.is_ok());
    }
    asking.replace(&list_file, &lists(&[2]), 1).await;
    for client in clients {
        assert_eq!(asking.connect(client).await, Err(None));
    }
    assert!(asking.connect(&of_root).await.is_ok());
    let told = [
        [
            "ca.pem: the CERTIFICATE in line",
            "CN=between",
            "list.pem revokes it",
        ],
        [
            "ca.pem: the CERTIFICATE in line",
            "CN=below",
            "above it is revoked",
        ],
    ];
    for parts in &told {
        asking
            .gateway
            .log()
            .line(&[&["WARN"], &parts[..]].concat())
            .await;
    }
    let configuration = asking.gateway.folder().join("gateway.toml");
    let validate = ["validate", configuration.to_str().unwrap()];
    let ended = LOCKGATE.run(&validate).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in told.as_flattened() {
        assert!(ended.error.contains(part), "{part}: {ended:?}");
    }
    // None is left, which is no reason to go on with those of before.
    asking.replace(&ca_file, &between.pem(), 2).await;
    for client in clients.iter().chain([&of_root]) {
        assert_eq!(asking.connect(client).await, Err(None));
    }
    // The list takes it back, and no other authority is in `ca`.
    asking.replace(&list_file, &lists(&[]), 3).await;
    for client in clients.iter().take(2) {
        assert!(asking.connect(client).await.is_ok());
    }
}

#[tokio::test]
async fn list_of_many_certificates_counts_and_one_beyond_the_bound_is_refused() {
    let ca = authority("clients");
    let (asking, folder) = asking(&ca, &revocation_list(&ca, &[])).await;
    let [good, revoked] =
        [10, 60_000].map(|serial| asking.client(Some(&issue(&ca, &params(serial)))));
    assert!(asking.connect(&revoked).await.is_ok());
    let list_file = folder.path().join("list.pem");
    let serials: Vec<u64> = (20_000..=60_000).collect();
    let long = revocation_list(&ca, &serials);
    assert!(long.len() > 1 << 20);
    asking.replace(&list_file, &long, 0).await;
    assert!(asking.connect(&good).await.is_ok());
    assert_eq!(asking.connect(&revoked).await, Err(None));
    // Text between sections is allowed.
    let too_long = revocation_list(&ca, &[]) + &"\n".repeat(16 << 20);
    write(&list_file, &too_long);
    let (status, body) = asking.gateway.post("/reload", "{}").await;
    assert_eq!(status, 422, "{body}");
    for part in [
        "it is longer than 16 MiB",
        "leave out of its list what has expired",
    ] {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert_eq!(asking.connect(&revoked).await, Err(None));
}

/// Many authorities publish no list for those below them.
#[tokio::test]
async fn intermediate_authority_without_a_list_lets_in_those_of_its_own() {
    let root = authority("clients");
    let between = intermediate("between", &root, 2);
    let lists = between.pem() + &revocation_list(&between, &[9]);
    let (asking, _folder) = asking(&root, &lists).await;
    let good = asking.client(Some(&issue_between(&between, 10)));
    assert!(asking.connect(&good).await.is_ok());
    let revoked = asking.client(Some(&issue_between(&between, 9)));
    assert_eq!(asking.connect(&revoked).await, Err(None));
    // The log says why all clients of an authority are kept out, once.
    for _ in 0..2 {
        let of_root = asking.client(Some(&issue(&root, &params(10))));
        assert_eq!(asking.connect(&of_root).await, Err(None));
    }
    let told = ["WARN", "has no list that judges", "CN=clients"];
    asking.gateway.log().line(&told).await;
    let lines = asking.gateway.log().lines();
    let warnings = lines.iter().filter(|line| line.contains(told[1]));
    assert_eq!(warnings.count(), 1);
}
