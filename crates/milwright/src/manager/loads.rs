//! Loads a model once for all its sessions on a backend.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::sync::{Mutex, lock};
use crate::{Cancel, LoadOptions, LoadedModel, Model, Result, Session};

/// A model on one backend: the first session that is opened loads it, the others share it while a session lives.
#[derive(Default)]
pub(super) struct Loads(Mutex<Load>);

#[derive(Default)]
enum Load {
    /// It is not loaded, or no longer.
    #[default]
    None,
    /// A thread loads it. The flag tells that the thread was abandoned, so that another one may try.
    Loading(Cancel),
    /// It was loaded. The model checks this flag, which was given to it when it was loaded.
    Ready(Weak<dyn LoadedModel>, Cancel),
}

/// How often a session looks whether another one has loaded the model.
const LOOK: Duration = Duration::from_millis(2);

impl Loads {
    /// Opens a session, and loads the model first unless another session has.
    pub fn session(
        &self,
        backend: &dyn crate::Backend,
        model: &Arc<Model>,
        options: &LoadOptions,
    ) -> Result<Box<dyn Session>> {
        while !self.claim(&options.cancel) {
            options.cancel.check()?;
            if let Some(loaded) = self.loaded() {
                return loaded.session();
            }
            std::thread::sleep(LOOK);
        }
        let claimed = Claimed { loads: self, cancel: &options.cancel };
        let loaded = backend.load(model, options)?;
        claimed.done(&loaded);
        loaded.session()
    }

    /// Forgets the loaded model: the next session loads it again. For a model in which a thread hangs.
    pub fn forget(&self) {
        *lock(&self.0) = Load::None;
    }

    fn loaded(&self) -> Option<Arc<dyn LoadedModel>> {
        match &*lock(&self.0) {
            Load::Ready(loaded, cancel) if !cancel.is_cancelled() => loaded.upgrade(),
            _ => None,
        }
    }

    /// Whether the caller is now the one that loads the model.
    fn claim(&self, cancel: &Cancel) -> bool {
        let mut load = lock(&self.0);
        let is_free = match &*load {
            Load::None => true,
            Load::Loading(by) => by.is_cancelled(),
            Load::Ready(loaded, cancel) => loaded.strong_count() == 0 || cancel.is_cancelled(),
        };
        if is_free {
            *load = Load::Loading(cancel.clone());
        }
        is_free
    }
}

/// Held while a thread loads the model. If loading fails or panics, the next session tries again.
struct Claimed<'a> {
    loads: &'a Loads,
    cancel: &'a Cancel,
}

impl Claimed<'_> {
    fn done(&self, loaded: &Arc<dyn LoadedModel>) {
        self.set(Load::Ready(Arc::downgrade(loaded), self.cancel.clone()));
    }

    /// Unless the thread was abandoned, and another one has taken over.
    fn set(&self, to: Load) {
        let mut load = lock(&self.loads.0);
        if matches!(&*load, Load::Loading(by) if by.is(self.cancel)) {
            *load = to;
        }
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.set(Load::None);
    }
}
