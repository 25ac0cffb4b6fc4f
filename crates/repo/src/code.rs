//! The code of every diagnostic of this crate. A code never changes its meaning, so that scripts may rely on it.

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal;)*) => {
        $($(#[doc = $doc])* pub const $name: &str = $code;)*

        /// Every code, in the order of this module.
        pub const ALL: &[&str] = &[$($name),*];
    };
}

codes! {
    /// The file is not YAML.
    YAML_SYNTAX = "repo::yaml_syntax";
    /// A tab is used for indentation.
    TAB = "repo::tab";
    /// A document is a list or a single value.
    NOT_A_MAPPING = "repo::not_a_mapping";
    /// A document does not say what kind of object it is.
    MISSING_KIND = "repo::missing_kind";
    /// A document says a kind that does not exist.
    UNKNOWN_KIND = "repo::unknown_kind";
    /// A mapping has a field that is not known there.
    UNKNOWN_FIELD = "repo::unknown_field";
    /// A mapping has one key twice.
    DUPLICATE_KEY = "repo::duplicate_key";
    /// A mapping lacks a field.
    MISSING_FIELD = "repo::missing_field";
    /// A value has the wrong YAML type.
    WRONG_TYPE = "repo::wrong_type";
    /// YAML reads an unquoted text as a boolean or a number.
    NEEDS_QUOTES = "repo::needs_quotes";
    /// A field is there and says nothing.
    EMPTY = "repo::empty";
    /// A text is not a name.
    BAD_NAME = "repo::bad_name";
    /// A text is not a duration.
    BAD_DURATION = "repo::bad_duration";
    /// A text is not a size in bytes.
    BAD_SIZE = "repo::bad_size";
    /// A text is not a type of features or join keys.
    BAD_TYPE = "repo::bad_type";
    /// The format of a source is not known.
    BAD_FORMAT = "repo::bad_format";
    /// A default is not of its feature's type.
    BAD_DEFAULT = "repo::bad_default";
    /// A text does not name a feature.
    BAD_REFERENCE = "repo::bad_reference";
    /// Two objects of one kind have one name.
    DUPLICATE_NAME = "repo::duplicate_name";
    /// A list names one thing twice.
    DUPLICATE_ELEMENT = "repo::duplicate_element";
    /// A view names an entity that nothing declares.
    UNKNOWN_ENTITY = "repo::unknown_entity";
    /// A view names a source that nothing declares.
    UNKNOWN_SOURCE = "repo::unknown_source";
    /// A service names a view that nothing declares.
    UNKNOWN_VIEW = "repo::unknown_view";
    /// Something is made from itself.
    CYCLE = "repo::cycle";
    /// Two entities of one view have a join key of the same name.
    JOIN_KEY_CONFLICT = "repo::join_key_conflict";
    /// A view has both a source and a query, or neither.
    SOURCE_OR_QUERY = "repo::source_or_query";
    /// A static source has a time column.
    STATIC_WITH_TIME = "repo::static_with_time";
    /// A view over a static source has a ttl.
    TTL_ON_STATIC = "repo::ttl_on_static";
    /// A view has the name of a source. A warning.
    VIEW_NAMED_LIKE_SOURCE = "repo::view_named_like_source";
    /// A view is held in no store. A warning.
    NO_STORE = "repo::no_store";
    /// A password or key is written in clear. A warning.
    SECRET_IN_CLEAR = "repo::secret_in_clear";
    /// `${VAR}` names a variable that is not set.
    UNDEFINED_VARIABLE = "repo::undefined_variable";
    /// `${…}` is not written right.
    BAD_VARIABLE = "repo::bad_variable";
    /// There is no `vintner.yaml`.
    MISSING_DEPLOYMENT = "repo::missing_deployment";
    /// There is more than one `vintner.yaml`, or more than one document in it.
    SECOND_DEPLOYMENT = "repo::second_deployment";
    /// An online store of a type that does not exist.
    UNKNOWN_STORE = "repo::unknown_store";
    /// A URL that the online store cannot be reached by.
    BAD_URL = "repo::bad_url";
    /// More than one of `url`, `cluster` and `sentinel` say where Redis is.
    REDIS_TWICE = "repo::redis_twice";
    /// The nodes of one cluster have different logins, or one names a database.
    CLUSTER_NODES = "repo::cluster_nodes";
    /// A text is not the host and port of a server.
    BAD_ADDRESS = "repo::bad_address";
    /// Files for TLS that are not asked for, or of which one is missing.
    BAD_TLS = "repo::bad_tls";
}
