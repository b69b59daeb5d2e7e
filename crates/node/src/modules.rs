//! Modules: what the catalog decides, done to types and objects.

use std::sync::Arc;

use bytes::Bytes;
use crucial_core::frame::ModuleInfo;
use crucial_object::{Error, TypeInfo};

use crate::ids::{Millis, ModuleId};
use crate::node::Node;
use crate::objects::RequestContext;
use crate::outputs::Outputs;
use crate::replication::{Message, View, ViewVersion};
use crate::rounds::RoundKind;
use crate::work::WorkDone;

impl Node {
    pub(crate) fn modules_are_behind(&self) -> bool {
        false
    }
    pub(crate) fn newer_code(&self, info: &'static TypeInfo) -> Option<&'static TypeInfo> {
        let new = self.types.find(info.name)?;
        (!std::ptr::eq(info, new)).then_some(new)
    }
    pub(crate) fn heard_view(&self) -> ViewVersion {
        self.version()
    }
    pub(crate) fn supersedes(&self, new: &TypeInfo, old: &TypeInfo) -> bool {
        new.name == old.name && !std::ptr::eq(new, old)
    }
    pub(crate) fn on_modules_view(&self, _: &Arc<View>, _: Millis, _: &mut Outputs) {}
    pub(crate) fn tick_modules(&self, _: Millis, _: &mut Outputs) {}
    pub(crate) fn needs_module(
        &self,
        _: &Message,
        _: ViewVersion,
        _: Millis,
        _: &mut Outputs,
    ) -> bool {
        false
    }
    pub(crate) fn end_module_round(&self, _: RoundKind, _: Millis, _: &mut Outputs) {}
    pub(crate) fn list_modules(&self) -> Vec<ModuleInfo> {
        self.types.modules()
    }
    pub(crate) fn on_work_done(&self, _: WorkDone, _: Millis, _: &mut Outputs) {}
    pub(crate) fn on_push(
        &self,
        context: RequestContext,
        _: Bytes,
        _: (bool, bool),
        _: Millis,
        out: &mut Outputs,
    ) {
        self.reply(&context, Err(&Error::Cancelled), out);
    }
    pub(crate) fn on_remove_module(
        &self,
        context: RequestContext,
        _: ModuleId,
        _: Millis,
        out: &mut Outputs,
    ) {
        self.reply(&context, Err(&Error::Cancelled), out);
    }
}
