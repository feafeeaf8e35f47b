//! What came in, packed: names and classes are kept once, however often they are said.
//!
//! The numbers that it gives to names and nodes say nothing of the order in which they came: [`Intake::close`] sorts them.

use std::{collections::HashMap, sync::Arc};

use super::{ResolvableEntity, form::Form, kind::Kind};
use crate::graph::ClassId;

/// The most words of a context that are kept for one entity.
const CONTEXT: usize = 12;

/// No class.
pub(super) const NONE: u32 = u32::MAX;

/// One name of one kind: what all entities share that nothing tells apart by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) form: Form,
    /// The class of a value, whose form is its normal form; names have none.
    pub(super) value: Option<Arc<str>>,
    /// Above 0 for an entity that a user tells apart from another one: it has a node of its own.
    pub(super) apart: u32,
}

impl Node {
    /// Whether rules about names may look at it.
    pub(super) fn is_name(&self) -> bool {
        self.value.is_none() && self.kind != Kind::Amount
    }

    /// Whether it is, or may be, a person's.
    pub(super) fn is_person(&self) -> bool {
        self.form.person && (self.kind == Kind::Person || self.kind.is_soft())
    }
}

/// The entities.
#[derive(Debug)]
pub(super) struct Intake<Id> {
    pub(super) ids: Vec<Id>,
    pub(super) documents: Vec<u32>,
    /// The spelling of each entity.
    pub(super) spelled: Vec<u32>,
    /// Other names that a document proves: the entity, the spelling.
    pub(super) aliases: Vec<(u32, u32)>,
    /// Hashed words of contexts: the document, the word.
    pub(super) context: Vec<(u32, u32)>,
    pub(super) spellings: Vec<Spelling>,
    pub(super) nodes: Vec<Node>,
    pub(super) classes: Vec<ClassId>,
    names: HashMap<Arc<str>, u32>,
    spelling_of: HashMap<(u32, u32, Kind, u32), u32>,
    node_of: HashMap<Node, u32>,
    class_of: HashMap<ClassId, u32>,
}

/// A name as it is written, with a class.
#[derive(Debug, Clone)]
pub(super) struct Spelling {
    pub(super) name: Arc<str>,
    pub(super) class: u32,
    pub(super) node: u32,
}

impl<Id> Intake<Id> {
    pub(super) fn new() -> Self {
        Self {
            ids: Vec::new(),
            documents: Vec::new(),
            spelled: Vec::new(),
            aliases: Vec::new(),
            context: Vec::new(),
            spellings: Vec::new(),
            nodes: Vec::new(),
            classes: Vec::new(),
            names: HashMap::new(),
            spelling_of: HashMap::new(),
            node_of: HashMap::new(),
            class_of: HashMap::new(),
        }
    }

    /// `apart` is above 0 for an entity that a user tells apart from another one.
    pub(super) fn add(&mut self, entity: ResolvableEntity<Id>, apart: u32) {
        let place = number(self.ids.len());
        let kind = Kind::of(entity.class.as_ref(), entity.label);
        let class = self.class(entity.class);
        let spelling = self.spelling(&entity.name, class, kind, entity.value.as_deref(), apart);
        for alias in &entity.aliases {
            let spelling = self.spelling(alias, class, kind, None, 0);
            self.aliases.push((place, spelling));
        }
        if let Some(context) = &entity.context {
            self.add_context(entity.document, context, &entity.name);
        }
        self.ids.push(entity.id);
        self.documents.push(entity.document);
        self.spelled.push(spelling);
    }

    fn class(&mut self, class: Option<ClassId>) -> u32 {
        let Some(class) = class else {
            return NONE;
        };
        if let Some(&number) = self.class_of.get(&class) {
            return number;
        }
        let new = number(self.classes.len());
        self.classes.push(class.clone());
        self.class_of.insert(class, new);
        new
    }

    fn spelling(
        &mut self,
        name: &str,
        class: u32,
        kind: Kind,
        value: Option<&str>,
        apart: u32,
    ) -> u32 {
        let (name, written) = self.name(name);
        let value_number = value.map_or(NONE, |value| self.name(value).1);
        // An entity apart has a spelling of its own, which is asked for once.
        let key = (written, class, kind, value_number);
        if apart == 0
            && let Some(&known) = self.spelling_of.get(&key)
        {
            return known;
        }
        let node = match value {
            Some(value) => Node {
                kind: Kind::Amount,
                form: Form::exactly(value),
                value: Some(
                    self.classes
                        .get(class as usize)
                        .map_or_else(|| Arc::from(""), |class| Arc::from(class.as_str())),
                ),
                apart,
            },
            None => Node {
                kind,
                form: Form::of(&name, kind),
                value: None,
                apart,
            },
        };
        let node = if let Some(&known) = self.node_of.get(&node) {
            known
        } else {
            let new = number(self.nodes.len());
            self.nodes.push(node.clone());
            self.node_of.insert(node, new);
            new
        };
        let new = number(self.spellings.len());
        self.spellings.push(Spelling { name, class, node });
        if apart == 0 {
            self.spelling_of.insert(key, new);
        }
        new
    }

    fn name(&mut self, name: &str) -> (Arc<str>, u32) {
        if let Some((name, &number)) = self.names.get_key_value(name) {
            return (Arc::clone(name), number);
        }
        let new = number(self.names.len());
        let name: Arc<str> = Arc::from(name);
        self.names.insert(Arc::clone(&name), new);
        (name, new)
    }

    /// Names, and what else is written with a capital, say what a document is about.
    fn add_context(&mut self, document: u32, context: &str, name: &str) {
        let mut words: Vec<u32> = context
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.len() > 3 && word.starts_with(char::is_uppercase))
            .filter(|word| !name.contains(word))
            .map(hashed)
            .collect();
        words.sort_unstable();
        words.dedup();
        words.truncate(CONTEXT);
        self.context
            .extend(words.into_iter().map(|word| (document, word)));
    }

    /// Numbers nodes in their order, and drops what only taking in needed.
    pub(super) fn close(&mut self) {
        self.names = HashMap::new();
        self.spelling_of = HashMap::new();
        self.class_of = HashMap::new();
        self.node_of = HashMap::new();
        let mut order: Vec<u32> = (0..number(self.nodes.len())).collect();
        order.sort_unstable_by(|&a, &b| self.nodes[a as usize].cmp(&self.nodes[b as usize]));
        let mut rank = vec![0_u32; order.len()];
        for (place, &node) in order.iter().enumerate() {
            rank[node as usize] = number(place);
        }
        for spelling in &mut self.spellings {
            spelling.node = rank[spelling.node as usize];
        }
        let mut nodes: Vec<Option<Node>> = std::mem::take(&mut self.nodes)
            .into_iter()
            .map(Some)
            .collect();
        self.nodes = order
            .iter()
            .filter_map(|&node| nodes[node as usize].take())
            .collect();
        self.context.sort_unstable();
        self.context.dedup();
    }

    /// The node that an entity's own name has.
    pub(super) fn node(&self, entity: u32) -> u32 {
        self.spellings[self.spelled[entity as usize] as usize].node
    }
}

/// Entities are counted in 32 bits; more than that many do not fit into memory.
pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// FNV-1a: the same on every machine and in every process.
fn hashed(word: &str) -> u32 {
    word.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    })
}
