//! Following what the files hold.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::TlsError;
use super::material::Material;
use crate::config::TlsConfig;

/// Something made of the files that settings name, made anew when these have changed.
pub(super) struct Reloading<T> {
    config: Arc<TlsConfig>,
    make: fn(&TlsConfig, &Material) -> Result<T, TlsError>,
    loaded: Mutex<Loaded<T>>,
}

struct Loaded<T> {
    /// What was read last, of what could be used.
    material: Material,
    made: Arc<T>,
    /// Why what was read since cannot be used: said once.
    fault: Option<String>,
}

impl<T: Send + Sync + 'static> Reloading<T> {
    /// Reads the files.
    ///
    /// # Errors
    /// They can't be read or used.
    pub(super) fn load(
        config: &TlsConfig,
        make: fn(&TlsConfig, &Material) -> Result<T, TlsError>,
    ) -> Result<Reloading<T>, TlsError> {
        let material = Material::read(config)?;
        let made = Arc::new(make(config, &material)?);
        let loaded = Mutex::new(Loaded { material, made, fault: None });
        Ok(Reloading { config: Arc::new(config.clone()), make, loaded })
    }

    /// Made of what the files hold now, or of what they held when they could be used last.
    pub(super) async fn current(&self) -> Arc<T> {
        let config = Arc::clone(&self.config);
        match tokio::task::spawn_blocking(move || Material::read(&config)).await {
            Ok(read) => self.renew(read),
            // The runtime ends.
            Err(error) => tracing::debug!(%error, "certificates not read again"),
        }
        Arc::clone(&self.loaded().made)
    }

    fn renew(&self, read: Result<Material, TlsError>) {
        let mut loaded = self.loaded();
        let renewed = match read {
            Ok(material) if material == loaded.material => {
                loaded.fault = None;
                return;
            }
            Ok(material) => (self.make)(&self.config, &material).map(|made| (material, made)),
            Err(error) => Err(error),
        };
        match renewed {
            Ok((material, made)) => {
                *loaded = Loaded { material, made: Arc::new(made), fault: None };
                tracing::info!("certificates were read again");
            }
            Err(error) => {
                let fault = error.to_string();
                if loaded.fault.as_ref() != Some(&fault) {
                    tracing::warn!(%error, "certificates cannot be used; going on with those read before");
                    loaded.fault = Some(fault);
                }
            }
        }
    }

    /// Nothing panics while it holds the lock.
    fn loaded(&self) -> MutexGuard<'_, Loaded<T>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
