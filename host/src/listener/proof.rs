//! What a connection's client has shown in TLS. It is judged again once the listener trusts others: a connection may
//! carry requests for days.

use std::sync::{Arc, Mutex, PoisonError};

use rustls_pki_types::CertificateDer;

use super::tls::Tls;
use crate::clock::now_ms;
use crate::handshake::Proof;

/// The certificates that a client has shown, and what they were judged by.
pub(super) struct ClientProof {
    tls: Arc<Tls>,
    /// The client's own first; empty if it has shown none.
    chain: Vec<CertificateDer<'static>>,
    /// The end of its own certificate, in milliseconds since the Unix epoch.
    expires_at: Option<u64>,
    last: Mutex<Verdict>,
}

/// The judgement under one of the listener's settings.
#[derive(Clone, Copy)]
struct Verdict {
    /// The settings' number.
    settings: u64,
    holds: bool,
}

impl ClientProof {
    /// A proof that TLS has judged by the settings with this number.
    pub(super) fn new(
        tls: Arc<Tls>,
        settings: u64,
        chain: Vec<CertificateDer<'static>>,
        expires_at: Option<u64>,
    ) -> Self {
        let last = Verdict {
            settings,
            holds: true,
        };
        Self {
            tls,
            chain,
            expires_at,
            last: Mutex::new(last),
        }
    }
}

impl Proof for ClientProof {
    /// The certificates are judged once after each change of what the listener trusts; without one, a number is
    /// compared.
    fn holds(&self) -> bool {
        if self.expires_at.is_some_and(|end| end <= now_ms()) {
            return false;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((settings, holds)) = self.tls.judge_again(last.settings, &self.chain) {
            *last = Verdict { settings, holds };
        }
        last.holds
    }
}
