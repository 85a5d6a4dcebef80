//! The permissions of a file with a secret: whoever may read it has the secret, whoever may write it chooses it.

use std::path::Path;

/// Who may read and write a file with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// Its owner alone.
    Owner,
    /// Its owner and its group: programs get keys by groups such as `ssl-cert`, and those of Kubernetes by `fsGroup`.
    Group,
}

/// The reason why a secret is none: others may read or write its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("others may read or write it (mode {mode:04o})")]
pub(crate) struct Exposed {
    expected: Secrecy,
    mode: u32,
}

impl Secrecy {
    /// Checks the mode of a file.
    pub(crate) fn check(self, mode: u32) -> Result<(), Exposed> {
        let others = match self {
            Self::Owner => 0o077,
            Self::Group => 0o007,
        };
        match mode & others {
            0 => Ok(()),
            _ => Err(Exposed {
                expected: self,
                mode,
            }),
        }
    }
}

impl Exposed {
    /// The command that corrects it.
    pub(crate) fn command(self, file: &Path) -> String {
        let file = file.display();
        match self.expected {
            Secrecy::Owner => format!("chmod 600 {file}"),
            Secrecy::Group => format!("chmod o-rwx {file}"),
        }
    }

    /// The command that corrects it, and who reads the file then: the gateway.
    pub(crate) fn remedy(self, file: &Path) -> String {
        let command = self.command(file);
        match self.expected {
            Secrecy::Owner => command,
            Secrecy::Group => format!(
                "{command}, which the gateway's user reads as its owner or by its group (of a Kubernetes secret: \
                 defaultMode: 0440, with fsGroup)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_is_judged_by_who_may_read_or_write() {
        for (mode, for_owner, for_group) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o640, false, true),
            (0o440, false, true),
            (0o660, false, true),
            (0o604, false, false),
            (0o602, false, false),
            (0o644, false, false),
        ] {
            for (secrecy, fits) in [(Secrecy::Owner, for_owner), (Secrecy::Group, for_group)] {
                assert_eq!(secrecy.check(mode).is_ok(), fits, "{secrecy:?} {mode:o}");
            }
        }
        let exposed = Secrecy::Group.check(0o644).expect_err("others may read it");
        assert!(exposed.to_string().contains("(mode 0644)"), "{exposed}");
        let remedy = exposed.remedy(Path::new("tls/key.pem"));
        assert!(remedy.starts_with("chmod o-rwx tls/key.pem,"), "{remedy}");
    }
}
