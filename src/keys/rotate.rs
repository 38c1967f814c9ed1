//! New keys in the place of old ones, while everything that was made with the old ones stays good.
//!
//! For one daemon, or daemons that read the same file and are told (SIGHUP) together, one step is enough. Daemons with files of
//! their own, or that are told one after the other, need two: [`Step::Standby`] makes the new keys known everywhere,
//! [`Step::Promote`] puts them to use. Otherwise a link made by one daemon would be unknown to another for a while.

use std::path::Path;

use chrono::{DateTime, Utc};

use super::file::{self, KeysError};
use super::ring::{KeyKind, KeyRing, NamedKey};

/// Most keys of one kind: each token that is checked may be tried with every one.
pub const MAX_KEYS: usize = 16;

/// What `keys rotate` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// New keys that are used at once.
    Replace,
    /// New keys that are known, but not used yet.
    Standby,
    /// Keys on standby are used from now on.
    Promote,
    /// Keys that were replaced before this moment are deleted. Never a pepper: a hash may be as old as its account.
    Retire(DateTime<Utc>),
}

/// Ids of keys that were deleted.
pub type Retired = Vec<(KeyKind, String)>;

impl KeyRing {
    /// Rotates the keys in a file; gives the keys as they are now, and which were deleted. The file's owner and permissions
    /// stay, and there is no moment without it.
    ///
    /// # Errors
    /// [`KeysError`]; then the file is as it was.
    pub fn rotate_file(
        path: &Path,
        kinds: &[KeyKind],
        step: Step,
        now: DateTime<Utc>,
    ) -> Result<(Self, Retired), KeysError> {
        file::update(path, |ring| {
            let refused = |reason| KeysError::NotRotated { path: path.to_owned(), reason };
            ring.rotate(kinds, step, now).map_err(refused)
        })
    }

    fn rotate(&mut self, kinds: &[KeyKind], step: Step, now: DateTime<Utc>) -> Result<Retired, String> {
        let mut retired = Retired::new();
        let mut promoted = false;
        for kind in kinds {
            let (name, keys) = (kind.as_str(), self.of_mut(*kind));
            match step {
                Step::Replace | Step::Standby => {
                    if let Some(waiting) = keys.iter().find(|key| key.standby) {
                        return Err(format!(
                            "the {name} key {} is on standby: put it to use first, with `regrant keys rotate --promote`",
                            waiting.id
                        ));
                    }
                    if keys.len() >= MAX_KEYS {
                        return Err(format!(
                            "it has {} {name} keys, and more are not accepted: delete those that nothing needs any more, with `regrant keys rotate --retire`",
                            keys.len()
                        ));
                    }
                    let standby = step == Step::Standby;
                    if !standby {
                        replace(keys, now);
                    }
                    keys.insert(0, NamedKey { standby, ..NamedKey::generate(now) });
                }
                Step::Promote => {
                    // With several, the first one in the file is the newest.
                    if let Some(at) = keys.iter().position(|key| key.standby) {
                        replace(keys, now);
                        let mut key = keys.remove(at);
                        key.standby = false;
                        keys.insert(0, key);
                        promoted = true;
                    }
                }
                Step::Retire(before) => {
                    if *kind != KeyKind::Pepper {
                        let old = |key: &NamedKey| key.replaced_at.is_some_and(|at| at < before);
                        retired.extend(keys.iter().filter(|key| old(key)).map(|key| (*kind, key.id.clone())));
                        keys.retain(|key| !old(key));
                    }
                }
            }
        }
        if step == Step::Promote && !promoted {
            return Err("no key is on standby: make new ones with `regrant keys rotate --standby`".to_owned());
        }
        Ok(retired)
    }
}

/// Notes that the key in use is not any more.
fn replace(keys: &mut [NamedKey], now: DateTime<Utc>) {
    if let Some(current) = keys.iter_mut().find(|key| !key.standby) {
        current.replaced_at = Some(now);
    }
}

#[cfg(test)]
mod tests;
