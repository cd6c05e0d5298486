// Reads and writes JSON for functions without a serializer attribute, and for the client's own bodies.

using System;
using System.Collections;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Reflection;
using System.Text;

namespace Pilotlight
{
    public sealed class JsonException : Exception
    {
        public JsonException(string message) : base(message)
        {
        }
    }

    static class Json
    {
        const int Depth = 64;
        static readonly CultureInfo Plain = CultureInfo.InvariantCulture;

        public static object Parse(string text)
        {
            var reader = new Reader(text);
            var value = reader.Value(0);
            reader.End();
            return value;
        }

        public static string Write(object value)
        {
            var text = new StringBuilder();
            Write(value, text, 0);
            return text.ToString();
        }

        /// Converts a parsed value to the type of a method's parameter.
        public static object To(Type type, object value)
        {
            if (value == null)
                return type.IsValueType ? Activator.CreateInstance(type) : null;
            if (type.IsInstanceOfType(value))
                return value;
            type = Nullable.GetUnderlyingType(type) ?? type;
            var fields = value as Dictionary<string, object>;
            if (fields != null)
                return Object(type, fields);
            var items = value as List<object>;
            if (items != null)
                return Items(type, items);
            if (type.IsEnum)
                return value is string ? Enum.Parse(type, (string)value, true) : Enum.ToObject(type, value);
            if (type == typeof(Guid))
                return Guid.Parse((string)value);
            if (type == typeof(DateTime))
                return DateTime.Parse((string)value, Plain, DateTimeStyles.RoundtripKind);
            if (value is string && type != typeof(string))
                throw new JsonException("a text is no " + type.Name);
            return Convert.ChangeType(value, type, Plain);
        }

        static object Object(Type type, Dictionary<string, object> fields)
        {
            var map = type.IsGenericType && type.GetGenericArguments().Length == 2;
            if (map)
            {
                var of = type.GetGenericArguments()[1];
                var made = (IDictionary)Activator.CreateInstance(typeof(Dictionary<,>).MakeGenericType(typeof(string), of));
                foreach (var field in fields)
                    made[field.Key] = To(of, field.Value);
                return made;
            }
            var instance = Activator.CreateInstance(type);
            var properties = type.GetProperties(BindingFlags.Public | BindingFlags.Instance);
            foreach (var property in properties.Where(one => one.CanWrite && one.GetIndexParameters().Length == 0))
            {
                var name = fields.Keys.FirstOrDefault(key => string.Equals(key, property.Name, StringComparison.OrdinalIgnoreCase));
                if (name != null)
                    property.SetValue(instance, To(property.PropertyType, fields[name]), null);
            }
            return instance;
        }

        static object Items(Type type, List<object> items)
        {
            var of = type.IsArray ? type.GetElementType() : type.GetGenericArguments().FirstOrDefault() ?? typeof(object);
            var array = Array.CreateInstance(of, items.Count);
            for (var i = 0; i < items.Count; i++)
                array.SetValue(To(of, items[i]), i);
            return type.IsAssignableFrom(array.GetType()) ? array : Activator.CreateInstance(typeof(List<>).MakeGenericType(of), array);
        }

        static void Write(object value, StringBuilder text, int depth)
        {
            if (depth > Depth)
                throw new JsonException("the answer is nested more than " + Depth + " deep, or holds itself");
            var fields = value as IDictionary;
            if (value == null)
                text.Append("null");
            else if (value is bool)
                text.Append((bool)value ? "true" : "false");
            else if (value is string || value is char || value is Guid || value is Enum)
                Quote(value.ToString(), text);
            else if (value is DateTime)
                Quote(((DateTime)value).ToString("o", Plain), text);
            else if (value is double || value is float)
                Number(Convert.ToDouble(value, Plain), text);
            else if (value is IConvertible)
                text.Append(Convert.ToString(value, Plain));
            else if (fields != null)
                Fields(fields.Keys.Cast<object>().Select(key => Pair(Convert.ToString(key, Plain), fields[key])), text, depth);
            else if (value is IEnumerable)
                Items((IEnumerable)value, text, depth);
            else if (value is Delegate || value is Type)
                throw new JsonException("a " + value.GetType().Name + " has no JSON");
            else
                Fields(Properties(value), text, depth);
        }

        static IEnumerable<KeyValuePair<string, object>> Properties(object value)
        {
            var all = value.GetType().GetProperties(BindingFlags.Public | BindingFlags.Instance);
            var readable = all.Where(one => one.CanRead && one.GetIndexParameters().Length == 0);
            return readable.Select(one => Pair(one.Name, one.GetValue(value, null)));
        }

        static KeyValuePair<string, object> Pair(string name, object value)
        {
            return new KeyValuePair<string, object>(name, value);
        }

        static void Fields(IEnumerable<KeyValuePair<string, object>> fields, StringBuilder text, int depth)
        {
            var mark = '{';
            foreach (var field in fields)
            {
                text.Append(mark);
                Quote(field.Key, text);
                text.Append(':');
                Write(field.Value, text, depth + 1);
                mark = ',';
            }
            text.Append(mark == '{' ? "{}" : "}");
        }

        static void Items(IEnumerable items, StringBuilder text, int depth)
        {
            var mark = '[';
            foreach (var item in items)
            {
                text.Append(mark);
                Write(item, text, depth + 1);
                mark = ',';
            }
            text.Append(mark == '[' ? "[]" : "]");
        }

        static void Number(double value, StringBuilder text)
        {
            if (double.IsNaN(value) || double.IsInfinity(value))
                throw new JsonException("JSON has no " + value.ToString(Plain));
            text.Append(value.ToString("R", Plain));
        }

        static void Quote(string value, StringBuilder text)
        {
            text.Append('"');
            foreach (var c in value)
            {
                if (c == '"' || c == '\\')
                    text.Append('\\').Append(c);
                else if (c < ' ')
                    text.Append("\\u").Append(((int)c).ToString("x4", Plain));
                else
                    text.Append(c);
            }
            text.Append('"');
        }

        sealed class Reader
        {
            readonly string text;
            int at;

            public Reader(string text)
            {
                this.text = text;
            }

            public object Value(int depth)
            {
                Space();
                if (depth > 512 || at >= text.Length)
                    throw Odd();
                switch (text[at])
                {
                    case '{': return Object(depth);
                    case '[': return Items(depth);
                    case '"': return Text();
                    case 't': return Word("true", true);
                    case 'f': return Word("false", false);
                    case 'n': return Word("null", null);
                    default: return Number();
                }
            }

            public void End()
            {
                Space();
                if (at != text.Length)
                    throw Odd();
            }

            object Object(int depth)
            {
                var fields = new Dictionary<string, object>();
                at++;
                for (Space(); Peek() != '}'; Space())
                {
                    if (fields.Count > 0)
                        Take(',');
                    Space();
                    var name = Text();
                    Space();
                    Take(':');
                    fields[name] = Value(depth + 1);
                }
                at++;
                return fields;
            }

            object Items(int depth)
            {
                var items = new List<object>();
                at++;
                for (Space(); Peek() != ']'; Space())
                {
                    if (items.Count > 0)
                        Take(',');
                    items.Add(Value(depth + 1));
                }
                at++;
                return items;
            }

            string Text()
            {
                Take('"');
                var value = new StringBuilder();
                for (; Peek() != '"'; at++)
                {
                    if (text[at] != '\\')
                    {
                        value.Append(text[at]);
                        continue;
                    }
                    at++;
                    var place = "\"\\/bfnrt".IndexOf(Peek());
                    if (place >= 0)
                        value.Append("\"\\/\b\f\n\r\t"[place]);
                    else if (text[at] == 'u' && at + 4 < text.Length)
                    {
                        value.Append((char)int.Parse(text.Substring(at + 1, 4), NumberStyles.HexNumber, Plain));
                        at += 4;
                    }
                    else
                        throw Odd();
                }
                at++;
                return value.ToString();
            }

            object Number()
            {
                var from = at;
                while (at < text.Length && "+-.0123456789eE".IndexOf(text[at]) >= 0)
                    at++;
                var digits = text.Substring(from, at - from);
                long whole;
                if (long.TryParse(digits, NumberStyles.AllowLeadingSign, Plain, out whole))
                    return whole;
                double number;
                if (double.TryParse(digits, NumberStyles.Float, Plain, out number))
                    return number;
                throw Odd();
            }

            object Word(string word, object value)
            {
                if (string.CompareOrdinal(text, at, word, 0, word.Length) != 0)
                    throw Odd();
                at += word.Length;
                return value;
            }

            char Peek()
            {
                if (at >= text.Length)
                    throw Odd();
                return text[at];
            }

            void Take(char c)
            {
                if (Peek() != c)
                    throw Odd();
                at++;
            }

            void Space()
            {
                while (at < text.Length && " \t\r\n".IndexOf(text[at]) >= 0)
                    at++;
            }

            JsonException Odd()
            {
                return new JsonException("the event is no JSON at character " + at);
            }
        }
    }
}
