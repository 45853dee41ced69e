//! Which functions can have a control point below them on the stack.

use std::collections::{BTreeSet, HashMap};

use wasmparser::FuncType;

use super::module::{Module, to_u32, to_usize};

/// The functions and the types of indirect calls that can reach a control point.
#[derive(Default)]
pub(super) struct Suspendable {
    pub(super) functions: BTreeSet<u32>,
    types: BTreeSet<u32>,
    /// For each type, the first one that is equal to it.
    canonical: Vec<u32>,
}

impl Suspendable {
    pub(super) fn of(module: &Module<'_>) -> Suspendable {
        let mut suspendable = Suspendable {
            canonical: canonical_types(&module.types),
            ..Suspendable::default()
        };
        let mut callers: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut callers_by_type: HashMap<u32, Vec<u32>> = HashMap::new();
        for body in &module.bodies {
            for callee in &body.calls {
                callers.entry(*callee).or_default().push(body.function);
            }
            for ty in &body.indirect_calls {
                let ty = suspendable.canonical[to_usize(*ty)];
                callers_by_type.entry(ty).or_default().push(body.function);
            }
        }
        let mut found: Vec<u32> = module.control_points.iter().copied().collect();
        while let Some(function) = found.pop() {
            if !suspendable.functions.insert(function) {
                continue;
            }
            found.extend(callers.remove(&function).unwrap_or_default());
            if module.addressable.contains(&function) {
                let ty = module.functions[to_usize(function)];
                let ty = suspendable.canonical[to_usize(ty)];
                suspendable.types.insert(ty);
                found.extend(callers_by_type.remove(&ty).unwrap_or_default());
            }
        }
        suspendable
    }

    pub(super) fn reached_by_type(&self, type_index: u32) -> bool {
        self.types.contains(&self.canonical[to_usize(type_index)])
    }
}

fn canonical_types(types: &[FuncType]) -> Vec<u32> {
    let mut first: HashMap<&FuncType, u32> = HashMap::new();
    let numbered = (0..to_u32(types.len())).zip(types);
    numbered
        .map(|(index, ty)| *first.entry(ty).or_insert(index))
        .collect()
}
