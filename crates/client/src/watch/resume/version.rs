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
        self.has(&[(4, 25), (5, 8)])
    }

    /// What is known to be wrong with watches of this version, of what no client can make up for.
    pub(crate) fn flaw(self) -> Option<&'static str> {
        if !self.answers_progress_in_order() {
            Some("progress notes can be ahead of events and are not relied on, and events can be lost by a compaction")
        } else if !self.has(&[(4, 36), (5, 18)]) {
            // Three faults; these versions have mended the last.
            Some("events can be lost by a compaction")
        } else {
            None
        }
    }

    /// Whether it has what the minor versions of 3 named here have since a patch, all later ones from the
    /// beginning, and no earlier one.
    fn has(self, since: &[(u32, u32)]) -> bool {
        match since.iter().find(|(minor, _)| *minor == self.minor) {
            _ if self.major != 3 => self.major > 3,
            Some((_, patch)) => self.patch >= *patch && self.patch != u32::MAX,
            None => since.iter().all(|(minor, _)| self.minor > *minor),
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.major, self.minor, self.patch) {
            (major, u32::MAX, u32::MAX) => write!(f, "{}.0.0 before its release", major.saturating_add(1)),
            (major, minor, u32::MAX) => write!(f, "{major}.{}.0 before its release", minor.saturating_add(1)),
            (major, minor, patch) => write!(f, "{major}.{minor}.{patch}"),
        }
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

    #[test]
    fn it_is_shown_as_the_member_says_it() {
        let shown = |text| ServerVersion::parse(text).unwrap().to_string();
        assert_eq!(shown("3.5.1"), "3.5.1");
        assert_eq!(shown("3.6.0-rc.1"), "3.6.0 before its release");
        assert_eq!(shown("4.0.0-alpha"), "4.0.0 before its release");
    }

    #[test]
    fn what_is_wrong_with_a_version_is_known() {
        let flaw = |text| ServerVersion::parse(text).unwrap().flaw().unwrap_or_default();
        for text in ["3.3.27", "3.4.24", "3.5.1", "3.5.8-rc.0", "3.6.0-alpha.0"] {
            assert!(flaw(text).contains("progress") && flaw(text).contains("lost"), "{text}");
        }
        for text in ["3.4.25", "3.4.35", "3.5.8", "3.5.17", "3.5.18-rc.0"] {
            assert!(!flaw(text).contains("progress") && flaw(text).contains("lost"), "{text}");
        }
        for text in ["3.4.36", "3.5.18", "3.6.0", "3.7.3", "4.0.0"] {
            assert_eq!(flaw(text), "", "{text}");
        }
    }
}
