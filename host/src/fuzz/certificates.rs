//! Certificate files: PEM and X.509.

use crate::listener::pem;
use crate::listener::x509::X509;

/// Takes a PEM file, or a certificate in DER. Sections stand in lines of the file, in order.
pub(crate) fn certificates(input: &[u8]) {
    x509(input);
    let Ok(sections) = pem::parse(input) else {
        return;
    };
    let lines = 1 + input.iter().filter(|byte| **byte == b'\n').count();
    let mut before = 1;
    for section in sections {
        assert!((before..=lines).contains(&section.line), "{section}");
        before = section.line;
        x509(&section.der);
    }
}

/// A certificate has no byte too few or too many, and its parts lie in it.
fn x509(der: &[u8]) {
    let Some(x509) = X509::parse(der) else {
        return;
    };
    let (key, range) = (x509.public_key.as_ptr_range(), der.as_ptr_range());
    assert!(range.start <= key.start && key.end <= range.end);
    assert!((1..=3).contains(&x509.version));
    assert!(
        x509.rsa_bits()
            .is_none_or(|bits| bits <= 8 * x509.public_key.len())
    );
    for name in &x509.names {
        assert_eq!(*name, name.to_ascii_lowercase());
        assert!(!name.ends_with('.'));
    }
    assert!(X509::parse(&der[..der.len() - 1]).is_none());
    assert!(X509::parse(&[der, &[0]].concat()).is_none());
}
