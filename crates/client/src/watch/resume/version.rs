use std::fmt;

/// The version of etcd that a member says it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServerVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

impl ServerVersion {
    /// Reads `3.5.8` or `3.6.0-rc.1`. A version before a release counts as the one before it.
    pub(crate) fn parse(text: &str) -> Option<ServerVersion> {
        let (numbers, before_release) = match text.split_once(['-', '+']) {
            Some((numbers, _)) => (numbers, text.contains('-')),
            None => (text, false),
        };
        let mut parts = numbers.split('.').map(|part| part.parse::<u32>().ok());
        let (major, minor, patch) = (parts.next()??, parts.next()??, parts.next()??);
        if parts.next().is_some() {
            return None;
        }
        let version = ServerVersion { major, minor, patch };
        Some(if before_release { version.before() } else { version })
    }

    fn before(self) -> ServerVersion {
        match (self.minor, self.patch) {
            (_, 1..) => ServerVersion { patch: self.patch - 1, ..self },
            (1.., 0) => ServerVersion { minor: self.minor - 1, patch: u32::MAX, ..self },
            (0, 0) => ServerVersion { major: self.major.saturating_sub(1), minor: u32::MAX, patch: u32::MAX },
        }
    }

    /// Whether the answer to a progress request may be believed. Before 3.4.25 and 3.5.8 etcd could send it
    /// ahead of events at or below its revision (etcd issue 15220).
    pub(crate) fn answers_progress_in_order(self) -> bool {
        match (self.major, self.minor) {
            (3, 4) => self.patch >= 25 && self.patch != u32::MAX,
            (3, 5) => self.patch >= 8 && self.patch != u32::MAX,
            (3, 6..) | (4.., _) => true,
            _ => false,
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_known_by_their_version() {
        let trusted = |text| ServerVersion::parse(text).is_some_and(ServerVersion::answers_progress_in_order);
        for text in ["3.4.25", "3.4.44", "3.5.8", "3.5.31", "3.6.0", "3.7.3", "4.0.0", "3.5.9-rc.1"] {
            assert!(trusted(text), "{text}");
        }
        for text in
            ["3.4.24", "3.3.27", "3.5.7", "3.5.8-rc.0", "3.6.0-alpha.0", "2.3.8", "", "3.5", "3.5.x", "not decided"]
        {
            assert!(!trusted(text), "{text}");
        }
    }
}
