//! The signature algorithms (RFC 7518 §3.1, RFC 8037 §3.1), with the keys that each takes.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, VerificationAlgorithm,
};

use crate::config::JwtAlgorithm;

/// The verification of one algorithm, by the kind of its keys.
pub(super) enum Verification {
    Rsa(&'static RsaParameters),
    /// An elliptic curve: its name in a JWK (RFC 7518 §6.2.1.1), and the bytes of a coordinate.
    Ec(&'static EcdsaVerificationAlgorithm, &'static str, usize),
    Ed25519,
}

impl Verification {
    pub(super) fn of(algorithm: JwtAlgorithm) -> Self {
        match algorithm {
            JwtAlgorithm::Rs256 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            JwtAlgorithm::Rs384 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            JwtAlgorithm::Rs512 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA512),
            JwtAlgorithm::Ps256 => Self::Rsa(&RSA_PSS_2048_8192_SHA256),
            JwtAlgorithm::Ps384 => Self::Rsa(&RSA_PSS_2048_8192_SHA384),
            JwtAlgorithm::Ps512 => Self::Rsa(&RSA_PSS_2048_8192_SHA512),
            JwtAlgorithm::Es256 => Self::Ec(&ECDSA_P256_SHA256_FIXED, "P-256", 32),
            JwtAlgorithm::Es384 => Self::Ec(&ECDSA_P384_SHA384_FIXED, "P-384", 48),
            JwtAlgorithm::Es512 => Self::Ec(&ECDSA_P521_SHA512_FIXED, "P-521", 66),
            JwtAlgorithm::EdDsa => Self::Ed25519,
        }
    }

    /// The algorithm, for a key that is given as a SubjectPublicKeyInfo.
    pub(super) fn by_info(&self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Rsa(parameters) => *parameters,
            Self::Ec(algorithm, ..) => *algorithm,
            Self::Ed25519 => &ED25519,
        }
    }
}
