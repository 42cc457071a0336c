"""What templates of several families write for an assistant's message with calls, written from published formats."""

HERMES = (
    "{%- for message in messages %}{%- if message.content %}{{- message.content }}{%- endif %}"
    '{%- for call in message.tool_calls %}{{- \'\\n<tool_call>\\n{"name": "\' }}{{- call.function.name }}'
    "{{- '\", \"arguments\": ' }}{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}"
    "{%- endfor %}{%- endfor %}"
)

QWEN3_CODER = (
    "{%- for message in messages %}{%- if message.content %}{{- message.content + '\\n' }}{%- endif %}"
    "{%- for call in message.tool_calls %}{{- '\\n<tool_call>\\n<function=' + call.function.name + '>\\n' }}"
    "{%- for name, value in call.function.arguments | items %}{{- '<parameter=' + name + '>\\n' }}"
    "{{- value if value is string else value | tojson }}{{- '\\n</parameter>\\n' }}{%- endfor %}"
    "{{- '</function>\\n</tool_call>' }}{%- endfor %}{%- endfor %}"
)

GLM = (
    "{%- for message in messages %}{%- if message.content %}{{- message.content }}{%- endif %}"
    "{%- for call in message.tool_calls %}{{- '\\n<tool_call>' + call.function.name }}"
    "{%- for name, value in call.function.arguments | items %}{{- '\\n<arg_key>' + name + '</arg_key>\\n<arg_value>' }}"
    "{{- value if value is string else value | tojson }}{{- '</arg_value>' }}{%- endfor %}"
    "{{- '\\n</tool_call>' }}{%- endfor %}{%- endfor %}"
)

LLAMA_3 = (
    "{%- for message in messages %}{%- for call in message.tool_calls %}"
    "{{- '; ' if not loop.first }}{{- '{\"name\": \"' + call.function.name + '\", \"parameters\": ' }}"
    "{{- call.function.arguments | tojson }}{{- '}' }}{%- endfor %}{%- endfor %}"
)

MISTRAL_LIST = (
    "{%- for message in messages %}{{- '[TOOL_CALLS] [' }}{%- for call in message.tool_calls %}"
    "{{- ', ' if not loop.first }}{{- {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}"
    "{%- endfor %}{{- ']' }}{%- endfor %}"
)

MISTRAL = (
    "{%- for message in messages %}{%- if message.content %}{{- message.content }}{%- endif %}"
    "{%- for call in message.tool_calls %}{{- '[TOOL_CALLS]' + call.function.name + '[ARGS]' }}"
    "{{- call.function.arguments | tojson }}{%- endfor %}{%- endfor %}"
)

_GEMMA_VALUE = (
    "{%- macro written(value) %}{%- if value is string %}{{- quote + value + quote }}"
    "{%- elif value is boolean %}{{- 'true' if value else 'false' }}{%- elif value is none %}{{- 'null' }}"
    "{%- elif value is mapping %}{{- '{' }}{%- for name, item in value | items %}{{- ',' if not loop.first }}"
    "{{- name + ':' }}{{- written(item) }}{%- endfor %}{{- '}' }}"
    "{%- elif value is iterable %}{{- '[' }}{%- for item in value %}{{- ',' if not loop.first }}{{- written(item) }}"
    "{%- endfor %}{{- ']' }}{%- else %}{{- value | string }}{%- endif %}{%- endmacro %}"
)
_GEMMA = (
    "{%- for message in messages %}{%- if message.content %}{{- message.content }}{%- endif %}"
    "{%- for call in message.tool_calls %}{{- opening + 'call:' + call.function.name }}"
    "{{- written(call.function.arguments) }}{{- closing }}{%- endfor %}{%- endfor %}"
)
GEMMA_4 = "{%- set quote, opening, closing = '<|\"|>', '<|tool_call>', '<tool_call|>' %}" + _GEMMA_VALUE + _GEMMA
FUNCTION_GEMMA = (
    "{%- set quote, opening, closing = '<escape>', '<start_function_call>', '<end_function_call>' %}"
    + _GEMMA_VALUE
    + _GEMMA
)

INTERN_LM = (
    "{%- for message in messages %}{%- if message.content %}{{- message.content }}{%- endif %}"
    "{%- for call in message.tool_calls %}{{- '<|action_start|><|plugin|>\\n' }}"
    "{{- {'name': call.function.name, 'parameters': call.function.arguments} | tojson }}{{- '<|action_end|>\\n' }}"
    "{%- endfor %}{%- endfor %}"
)

PYTHONIC = (
    "{%- macro written(value) %}{%- if value is string %}{{- value | tojson }}"
    "{%- elif value is boolean %}{{- 'True' if value else 'False' }}{%- elif value is none %}{{- 'None' }}"
    "{%- elif value is mapping %}{{- '{' }}{%- for name, item in value | items %}{{- ', ' if not loop.first }}"
    "{{- name | tojson + ': ' }}{{- written(item) }}{%- endfor %}{{- '}' }}"
    "{%- elif value is iterable %}{{- '[' }}{%- for item in value %}{{- ', ' if not loop.first }}{{- written(item) }}"
    "{%- endfor %}{{- ']' }}{%- else %}{{- value | string }}{%- endif %}{%- endmacro %}"
    "{%- for message in messages %}{{- '[' }}{%- for call in message.tool_calls %}{{- ', ' if not loop.first }}"
    "{{- call.function.name + '(' }}{%- for name, value in call.function.arguments | items %}"
    "{{- ', ' if not loop.first }}{{- name + '=' }}{{- written(value) }}{%- endfor %}{{- ')' }}{%- endfor %}{{- ']' }}"
    "{%- endfor %}"
)

# Format, template, and whether there may be words in front of the calls.
FAMILIES = {
    "hermes": ("hermes", HERMES, True),
    "qwen3-coder": ("qwen3_coder", QWEN3_CODER, True),
    "glm": ("glm", GLM, True),
    "llama-3": ("llama3_json", LLAMA_3, False),
    "mistral-list": ("mistral", MISTRAL_LIST, False),
    "mistral": ("mistral", MISTRAL, True),
    "gemma-4": ("gemma", GEMMA_4, True),
    "function-gemma": ("gemma", FUNCTION_GEMMA, True),
    "internlm": ("internlm", INTERN_LM, True),
    "pythonic": ("pythonic", PYTHONIC, False),
}
