// What the language means is Jinja's and Python's; the expected texts were compared with jinja2 3.1.
#include "text/chat_template.h"

#include "text/text_test_data.h"

namespace hylas {
namespace {

const boost::json::object& context() {
  static const boost::json::object values = boost::json::parse(R"({
    "a": 1, "b": 2.5, "s": "Hello Wörld", "e": "", "l": [3, 1, 2], "ls": ["b", "A", "c"], "n": null, "t": true,
    "f": false, "d": {"x": 1, "y": [1, {"z": null}], "t": true, "items": 5}, "u": "漢字🙂é", "sp": "  x y  ",
    "m": [{"role": "user", "content": "hi"}, {"role": "tool", "content": " a "}, {"role": "user", "content": null}],
    "multi": "l1\nl2\n\nl3\n", "q": "it's \"q\" \\ \n", "fl": [1.0, 0.1, 1e22, 123456789.125, 1e-7]
  })")
                                                .as_object();
  return values;
}

Result<std::string> render(const std::string& source) {
  auto parsed = ChatTemplate::parse(source);
  if (!parsed) return parsed.error();
  return (*parsed)->render(context());
}

struct Case {
  const char* source;
  const char* expected;
};

void expect_all(std::initializer_list<Case> cases) {
  for (const Case& c : cases) {
    Result<std::string> text = render(c.source);
    ASSERT_TRUE(text.ok()) << c.source << ": " << text.error().message;
    EXPECT_EQ(*text, c.expected) << c.source;
  }
}

TEST(ChatTemplate, Operators) {
  expect_all({
      {"{{ a + b }} {{ a - 3 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ a / 2 }} {{ 2 ** 10 }} {{ 7 / 7 }}",
       "3.5 -2 -4 2 0.5 1024 1.0"},
      {"{{ 'a' ~ 1 ~ none ~ true ~ 1.0 }}", "a1NoneTrue1.0"},
      {"{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }}",
       "True False True True True"},
      {"{{ 'x' in d }} {{ 'ell' in s }} {{ 9 not in l }} {{ 'a' in nowhere }}", "True True True False"},
      {"{{ a and b }} {{ n or s }} {{ not a }} {{ f and x }}", "2.5 Hello Wörld False False"},
      {"{{ 1 if a else 2 }}{{ 1 if n }}{{ 'x' if a == 1 and not f or n else 'y' }}", "1x"},
      {"{{ 'a' * 3 }} {{ [1] * 2 }} {{ [1] + [2] }} {{ 'x' 'y' }} {{ (1, 2)[0] }}", "aaa [1, 1] [1, 2] xy 1"},
      {"{{ -1|abs }} {{ (-1)|abs }} {{ l|length - 1 }} {{ 1e3 }} {{ 1_000 }}", "1 1 2 1000.0 1000"},
  });
}

TEST(ChatTemplate, ItemsAndSlices) {
  expect_all({
      {"{{ s[::-1] }}|{{ s[1:4] }}|{{ s[-3:] }}|{{ u[1] }}|{{ u|length }}|{{ u[::2] }}",
       "dlröW olleH|ell|rld|字|4|漢🙂"},
      {"{{ l[-1] }}|{{ l[5] }}|{{ l[::-1] }}|{{ l[10:] }}|{{ l[-100:2] }}|{{ s[5:1:-2] }}",
       "2||[2, 1, 3]|[]|[3, 1]| l"},
      {"{{ m[0].role }}{{ m[0]['role'] }}{{ m.0.role }}{{ m[0].nope is defined }}{{ n.foo }}", "useruseruserFalse"},
      {"{{ d['items'] }} {{ d.items is defined }} {{ d.items is mapping }}", "5 True False"},
  });
}

TEST(ChatTemplate, ValuesAsPythonWritesThem) {
  expect_all({
      {"{{ [1, 'a', none, true, 2.5, {'k': (1,)}] }}", "[1, 'a', None, True, 2.5, {'k': (1,)}]"},
      {"{{ fl }}", "[1.0, 0.1, 1e+22, 123456789.125, 1e-07]"},
      {"{{ [q] }}", R"(['it\'s "q" \\ \n'])"},
      {"{{ [\"it's\"] }}", "[\"it's\"]"},
  });
}

TEST(ChatTemplate, JsonAsPythonWritesIt) {
  expect_all({
      {"{{ d|tojson }}", R"({"x": 1, "y": [1, {"z": null}], "t": true, "items": 5})"},
      {"{{ q|tojson }}", R"("it's \"q\" \\ \n")"},
      {"{{ u|tojson }} {{ u|tojson(ensure_ascii=true) }}", R"("漢字🙂é" "\u6f22\u5b57\ud83d\ude42\u00e9")"},
      {"{{ d.y|tojson(indent=2) }}", "[\n  1,\n  {\n    \"z\": null\n  }\n]"},
      {"{{ {'b': 1, 'a': []}|tojson(sort_keys=true, separators=(',', ':')) }}", R"({"a":[],"b":1})"},
      {"{{ fl|tojson }}", "[1.0, 0.1, 1e+22, 123456789.125, 1e-07]"},
  });
}

TEST(ChatTemplate, Tests) {
  expect_all({
      {"{{ z is defined }} {{ z is undefined }} {{ n is none }} {{ s is string }} {{ d is mapping }} {{ n is not none "
       "}}",
       "False True True True True False"},
      {"{{ l is sequence }} {{ s is iterable }} {{ z is iterable }} {{ n is iterable }} {{ t is number }} {{ t is "
       "integer }}",
       "True True True False True False"},
      {"{{ t is true }} {{ a is true }} {{ f is false }} {{ a is odd }} {{ 9 is divisibleby 3 }} {{ a is eq 1 }}",
       "True False True True True True"},
  });
}

TEST(ChatTemplate, Filters) {
  expect_all({
      {"{{ sp|trim }}|{{ 'xyaxy'|trim('xy') }}|{{ '\\u3000a\\u00a0'|trim }}", "x y|a|a"},
      {"{{ s|upper }}|{{ s|lower }}|{{ 'foo bar-baz'|title }}|{{ 'hELLO'|capitalize }}",
       "HELLO WÖRLD|hello wörld|Foo Bar-Baz|Hello"},
      {"{{ s|replace('o', '0') }}|{{ ls|join(', ') }}|{{ m|join(';', attribute='role') }}",
       "Hell0 Wörld|b, A, c|user;tool;user"},
      {"{{ l|first }}{{ l|last }}{{ l|sort }}{{ ls|sort }}{{ l|reverse|list }}{{ l|sum }}{{ l|min }}{{ l|max }}",
       "32[1, 2, 3]['A', 'b', 'c'][2, 1, 3]613"},
      {"{{ m|map(attribute='role')|list }} {{ ls|map('upper')|join }}", "['user', 'tool', 'user'] BAC"},
      {"{{ m|selectattr('role', 'equalto', 'user')|list|length }}{{ m|rejectattr('content')|list|length }}", "21"},
      {"{{ l|select('odd')|list }}{{ l|reject('odd')|list }}{{ [1, 1, 2]|unique|list }}", "[3, 1][2][1, 2]"},
      {"{{ nope|default('q') }}{{ e|default('q') }}{{ e|default('q', true) }}{{ nope|length }}", "qq0"},
      {"{{ d|items|list|length }} {{ d|dictsort|first }} {{ nope|items|list }}", "4 ('items', 5) []"},
      {"{{ '12'|int }} {{ '1.7'|int }} {{ 'x'|int(5) }} {{ '1.5'|float }} {{ 2.567|round(2) }} {{ 1|string|length }}",
       "12 1 5 1.5 2.57 1"},
      {"{{ multi|indent }}", "l1\n    l2\n\n    l3\n"},
  });
}

TEST(ChatTemplate, Methods) {
  expect_all({
      {"{{ s.split('l', 1) }} {{ ' a  b '.split() }} {{ 'a,b,c'.rsplit(',', 1) }}",
       "['He', 'lo Wörld'] ['a', 'b'] ['a,b', 'c']"},
      {"{{ s.startswith('He') }} {{ s.endswith(('x', 'ld')) }} {{ s.find('W') }} {{ u.find('é') }}", "True True 6 3"},
      {"{{ 'xxaxx'.strip('x') }} {{ 'ab\n'.rstrip() }} {{ ','.join(ls) }} {{ s.upper() }}", "a ab b,A,c HELLO WÖRLD"},
      {"{{ d.get('x') }} {{ d.get('nope') }} {{ d.get('nope', 7) }} {{ d.keys()|list }}",
       "1 None 7 ['x', 'y', 't', 'items']"},
      {"{% for k, v in d.items() %}{{ k }}={{ v }},{% endfor %}", "x=1,y=[1, {'z': None}],t=True,items=5,"},
      {"{{ 'abc'.removeprefix('a') }} {{ '12'.isdigit() }} {{ multi.splitlines() }}", "bc True ['l1', 'l2', '', 'l3']"},
  });
}

TEST(ChatTemplate, Loops) {
  expect_all({
      {"{% for x in l %}{{ loop.index }}{{ loop.first }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}",
       "1True1;2False32;3False1;"},
      {"{% for x in [] %}a{% else %}empty{% endfor %}", "empty"},
      {"{% for x in l if x > 1 %}{{ loop.index }}:{{ x }} {% endfor %}", "1:3 2:2 "},
      {"{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% "
       "endfor %}",
       "0134"},
      {"{% for c in 'añ' %}[{{ c }}]{% endfor %}{{ range(5, 0, -2)|list }}", "[a][ñ][5, 3, 1]"},
      {"{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "4231"},
      {"{% set ns = namespace(v=0) %}{% for i in l %}{% set ns.v = ns.v + i %}{% endfor %}{{ ns.v }}", "6"},
      {"{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "aba"},
  });
}

TEST(ChatTemplate, MacrosAndBlocks) {
  expect_all({
      {"{% macro m(x, y=2) %}<{{ x }},{{ y }}>{% endmacro %}{{ m(1) }}{{ m(y=5, x=4) }}{{ m(' q')|trim|upper }}",
       "<1,2><4,5>< Q,2>"},
      {"{% macro r(n) %}{{ n }}{% if n > 0 %}{{ r(n - 1) }}{% endif %}{% endmacro %}{{ r(3) }}", "3210"},
      {"{% set g = 1 %}{% macro m() %}{{ g }}{% endmacro %}{% set g = 2 %}{{ m() }}", "2"},
      {"{% set x %} a{{ a }} {% endset %}[{{ x }}]{% set y | upper | trim %} b {% endset %}[{{ y }}]", "[ a1 ][B]"},
      {"{% filter upper %}abc{% endfilter %}", "ABC"},
      {"{% set p, q = 1, 2 %}{{ p }}{{ q }}{% generation %}x{% endgeneration %}", "12x"},
  });
}

TEST(ChatTemplate, WhiteSpaceControl) {
  expect_all({
      {"  {% if true %}\n x\n  {% endif %}\n\n", " x\n"},
      {"a\r\nb\r{{ a }}\n\n", "a\nb\n1\n"},
      {"x   {%- set y = 1 %}   \n z", "x   \n z"},
      {"x \n{%- if a -%} \n b \n{%- endif -%}\n y", "xby"},
      {"{# c #}\n\nx{# d -#}  \n y", "\nxy"},
      {"{{ a -}}  \n  b {{- a }}", "1b1"},
      {"{%+ if true %}p{% endif +%}\nq", "p\nq"},
      {"{% raw %}{{ not }} {% if %}{% endraw %}", "{{ not }} {% if %}"},
      {"{{ '}}' }}{{ {'a': {'b': 1}}.a.b }}", "}}1"},
  });
}

void expect_error(const std::string& source, ErrorCode code, const std::string& part) {
  Result<std::string> text = render(source);
  ASSERT_FALSE(text.ok()) << source.substr(0, 100);
  EXPECT_EQ(text.error().code, code) << text.error().message;
  EXPECT_NE(text.error().message.find(part), std::string::npos) << text.error().message;
}

TEST(ChatTemplate, ConstructsOutsideTheSubsetDoNotLoad) {
  for (const auto& [source, part] : std::initializer_list<std::pair<const char*, const char*>>{
           {"\n\n{% include 'x' %}", "line 3: the statement 'include' is not supported"},
           {"{{ a|frobnicate }}", "line 1: the filter 'frobnicate'"},
           {"\n{{ a is frobnicated }}", "line 2: the test 'frobnicated'"},
           {"{{ frobnicate() }}", "the function 'frobnicate'"},
           {"{{ l.append(1) }}", "the method 'append'"},
           {"{% for x in l recursive %}{% endfor %}", "recursive"},
           {"{{ dict(*l) }}", "* and **"},
       }) {
    auto parsed = ChatTemplate::parse(source);
    ASSERT_FALSE(parsed.ok()) << source;
    EXPECT_EQ(parsed.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(parsed.error().message.find(part), std::string::npos) << parsed.error().message;
  }
}

TEST(ChatTemplate, BrokenTemplatesDoNotLoad) {
  for (const char* source : {"{{ a", "{% if a %}", "{{ a + }}", "{{ (a }}", "{{ 'x }}", "{% endif %}", "{# x",
                             "{% raw %}", "{{ a $ b }}", "{{ a) }}", "{% for in l %}{% endfor %}", "{% break %}",
                             "{{ '\\xZZ' }}", "{% set %}", "{{ 99999999999999999999 }}"}) {
    auto parsed = ChatTemplate::parse(source);
    ASSERT_FALSE(parsed.ok()) << source;
    EXPECT_NE(parsed.error().message.find("line 1"), std::string::npos) << parsed.error().message;
  }
}

TEST(ChatTemplate, WhatTheTemplateRaisesIsTheMessage) {
  Result<std::string> text = render("{{ raise_exception('No ' ~ s) }}");
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.error().message, "No Hello Wörld");
  EXPECT_EQ(text.error().code, ErrorCode::kInvalid);
}

TEST(ChatTemplate, WrongTypesAreErrorsWithTheirLine) {
  expect_error("\n{{ z.foo }}", ErrorCode::kInvalid, "line 2");
  for (const char* source :
       {"{{ 'a' + 1 }}", "{{ none + 1 }}", "{{ 1 < 'a' }}", "{{ z|tojson }}", "{{ n|length }}", "{{ 1 / 0 }}",
        "{% for x in n %}{% endfor %}", "{% set a.x = 1 %}", "{{ a() }}", "{{ s.get('x') }}", "{% set x, y = l %}",
        "{{ {1: 2} }}", "{{ 9223372036854775807 + 1 }}", "{{ range(1000000) }}"}) {
    expect_error(source, source[3] == 'a' && source[4] == '(' ? ErrorCode::kUnsupported : ErrorCode::kInvalid,
                 "line 1");
  }
}

TEST(ChatTemplate, MaliciousTemplatesEndWithAnError) {
  std::string loops = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}";
  expect_error(loops, ErrorCode::kInvalid, "steps");
  expect_error("{% set n = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
               ErrorCode::kInvalid, "bytes");
  expect_error("{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
               ErrorCode::kInvalid, "items");
  expect_error("{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}",
               ErrorCode::kInvalid, "deep");
  expect_error("{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
               ErrorCode::kInvalid, "");
  expect_error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ErrorCode::kInvalid, "recurses");
  expect_error("{% set n = namespace() %}{% set n.x = n %}", ErrorCode::kInvalid, "namespace");
  expect_error("{{ " + std::string(99999, '(') + "1" + std::string(99999, ')') + " }}", ErrorCode::kUnsupported,
               "deep");
  expect_error(
      "{{ 1" +
          [] {
            std::string s;
            for (int i = 0; i < 9999; ++i) s += "+1";
            return s;
          }() +
          " }}",
      ErrorCode::kUnsupported, "deep");
  expect_error(
      [] {
        std::string s;
        for (int i = 0; i < 999; ++i) s += "{% if 1 %}";
        return s;
      }(),
      ErrorCode::kUnsupported, "deep");
  expect_error(std::string(2 << 20, 'x'), ErrorCode::kUnsupported, "longer");
}

TEST(ChatTemplate, ACheckpointMayHaveNone) {
  auto loaded = ChatTemplate::load(source_path("tests/data/text"));
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().code, ErrorCode::kNotFound);
}

TEST(ChatTemplate, TimeIsFormatted) {
  Result<std::string> text = render("{{ strftime_now('%Y')|int > 2000 }}{{ strftime_now('') }}");
  ASSERT_TRUE(text.ok()) << text.error().message;
  EXPECT_EQ(*text, "True");
}

}  // namespace
}  // namespace hylas
