std = "luajit"
max_line_length = 110
-- What an interface hands over need not be used.
unused_args = false

files["lua/ktstr/meta"] = { ignore = { "211", "241", "631" } }
files["tests/**/*_spec.lua"] = { std = "+busted" }
-- Scripts set globals for themselves where that is what they show.
files["docs/examples"] = { allow_defined_top = true }

exclude_files = { "build*" }
