//! Changes of the simulated function: its owner, its revision, its settings and its deletion.
//!
//! Fed by `world`. While another gateway owns the function, what that gateway and the controller do happens
//! here, too.

use pilotlight_core::instance;
use pilotlight_core::invoke::pool::{self, InstanceId, Settings};

use crate::happening::Happening;
use crate::supervisor::SimInstance;
use crate::world::{World, draw_settings};

impl World {
    /// Returns false if another gateway owns the function already, or it is deleted.
    pub(crate) fn hand_over(&mut self) -> bool {
        if self.away || self.deleted {
            return false;
        }
        self.summary.handed_over += 1;
        self.away = true;
        self.oracle.handed_over();
        self.pool_handles(pool::Event::HandedOver);
        true
    }

    pub(crate) fn take_over(&mut self) {
        self.away = false;
        self.oracle.taken_over();
        if self.deleted {
            return;
        }
        self.pool.take_over();
        let living: Vec<_> = self
            .instances
            .keys()
            .chain(&self.booting)
            .copied()
            .collect();
        for id in living {
            let is_draining = self
                .instances
                .get(&id)
                .is_some_and(SimInstance::is_draining);
            if is_draining || self.is_outdated(id) {
                continue;
            }
            let mut names = self.names_of(id).into_iter();
            if names.any(|name| self.pool.keep(self.now, name)) {
                self.summary.kept += 1;
                continue;
            }
            self.summary.adopted += 1;
            let name = self.pool.adopt(self.now);
            self.links.insert(name, id);
            self.oracle.adopted(name);
            if self.instances.contains_key(&id) {
                self.send(Happening::UpArrives(name));
            }
            if let Some(instance) = self.instances.get(&id) {
                let (epoch, code) = instance.reported_status();
                self.send(Happening::StatusArrives(name, epoch, code));
            }
        }
        if self.oracle.live() + self.others.live > self.settings.limit {
            // The limit was lowered meanwhile.
            self.excuse_all();
        }
        self.pool.wake(self.now);
        self.pool_acts();
    }

    /// The other gateway stops the instances that a change of the function makes outdated.
    fn retire_elsewhere(&mut self) {
        if self.away {
            self.booting.clear();
            let living: Vec<_> = self.instances.keys().copied().collect();
            for id in living {
                self.machine_handles(id, instance::Event::Drain);
            }
        }
    }

    /// The controller stops outdated instances that were handed over and not adopted.
    pub(crate) fn end_outdated(&mut self) {
        let made: Vec<_> = self.made_of.keys().copied().collect();
        for id in made {
            if self.is_outdated(id) && self.names_of(id).is_empty() {
                self.booting.remove(&id);
                self.machine_handles(id, instance::Event::Drain);
            }
        }
    }

    fn is_outdated(&self, id: InstanceId) -> bool {
        self.made_of[&id] < self.revision
    }

    pub(crate) fn replace(&mut self) {
        self.summary.replaced += 1;
        self.revision += 1;
        self.settings = self.other_settings();
        self.excuse_all();
        self.oracle.replaced(self.settings);
        self.pool_handles(pool::Event::Replaced {
            settings: self.tampering.settings(self.settings),
        });
        self.retire_elsewhere();
    }

    pub(crate) fn other_settings(&mut self) -> Settings {
        let mut settings = draw_settings(&mut self.rng);
        // Instances have the timeout of their start.
        settings.timeout = self.settings.timeout;
        if self.quiet {
            settings.provisioned = 0;
        }
        settings
    }

    pub(crate) fn configure(&mut self, settings: Settings) {
        self.summary.configured += 1;
        self.settings = settings;
        // Instances that were idle for long may be surplus now.
        self.excuse_all();
        self.oracle.replaced(settings);
        let settings = self.tampering.settings(settings);
        self.pool_handles(pool::Event::Configured { settings });
    }

    /// The function has this limit, which all its pools share.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        if limit != self.settings.limit {
            let settings = self.settings;
            self.configure(Settings { limit, ..settings });
        }
    }

    /// From now on no call arrives and no instance is provisioned, so that all instances end.
    pub(crate) fn come_to_rest(&mut self) {
        self.quiet = true;
        self.configure(Settings {
            provisioned: 0,
            ..self.settings
        });
    }

    pub(crate) fn delete(&mut self) {
        self.summary.deleted += 1;
        self.deleted = true;
        self.excuse_all();
        self.oracle.deleted();
        self.pool_handles(pool::Event::Deleted);
        self.retire_elsewhere();
    }

    pub(crate) fn excuse_all(&mut self) {
        // The pool may stop each of its instances because of the change.
        for id in self.links.keys() {
            self.oracle.excuse(*id);
        }
    }
}
