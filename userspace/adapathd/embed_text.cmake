# Writes INPUT as a C++ string literal `adapath::kDefaultConfig` to OUTPUT.
file(READ ${INPUT} text)
file(WRITE ${OUTPUT} "// Generated from adapathd.conf.\nnamespace adapath {\nextern const char kDefaultConfig[];\nconst char kDefaultConfig[] = R\"~~~~(${text})~~~~\";\n}\n")
