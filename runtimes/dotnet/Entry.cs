// Finds, checks and calls the function's method, `Assembly::Namespace.Class::Method`.

using System;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.ExceptionServices;
using System.Text;
using System.Threading.Tasks;

namespace Pilotlight
{
    /// The handler is wrong. The message is the original platform's.
    public sealed class LambdaValidationException : Exception
    {
        public LambdaValidationException(string message) : base(message)
        {
        }
    }

    sealed class Entry
    {
        const string Context = "Amazon.Lambda.Core.ILambdaContext";
        const string Serializer = "Amazon.Lambda.Core.LambdaSerializerAttribute";

        readonly MethodInfo method;
        readonly object target;
        readonly object serializer;

        public static Entry Load(string text, string root)
        {
            var parts = text.Split(new[] { "::" }, StringSplitOptions.None);
            if (parts.Length != 3 || parts.Any(part => part == ""))
                throw new LambdaValidationException(
                    "The handler '" + text + "' must be of the form Assembly::Namespace.Class::Method.");
            var file = Path.Combine(root, parts[0] + ".dll");
            if (!File.Exists(file))
                throw new LambdaValidationException("Could not find the specified handler assembly '" + parts[0] + "'.");
            return new Entry(Assembly.LoadFrom(file), parts);
        }

        /// `parts`: assembly, class and method, from the handler's text.
        public Entry(Assembly assembly, params string[] parts)
        {
            var type = assembly.GetType(parts[1]);
            if (type == null)
                throw new LambdaValidationException(
                    "Unable to load type '" + parts[1] + "' from assembly '" + parts[0] + "'.");
            var all = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static | BindingFlags.Instance;
            var found = type.GetMethods(all).Where(one => one.Name == parts[2]).ToArray();
            if (found.Length != 1)
                throw new LambdaValidationException(
                    (found.Length == 0 ? "Unable to find method '" : "There is more than one method '") + parts[2] +
                    "' in type '" + parts[1] + "' from assembly '" + parts[0] + "'.");
            method = found[0];
            serializer = SerializerOf(method) ?? SerializerOf(assembly);
            if (!method.IsStatic)
                target = Unwrapped(() => Activator.CreateInstance(type));
            else
                System.Runtime.CompilerServices.RuntimeHelpers.RunClassConstructor(type.TypeHandle);
        }

        public byte[] Call(Event given)
        {
            var arguments = method.GetParameters().Select(one => Argument(one.ParameterType, given)).ToArray();
            var answer = Unwrapped(() => method.Invoke(target, arguments));
            var type = method.ReturnType;
            var task = answer as Task;
            if (task != null)
            {
                task.GetAwaiter().GetResult();
                type = type.IsGenericType ? type.GetGenericArguments()[0] : typeof(void);
                answer = type == typeof(void) ? null : task.GetType().GetProperty("Result").GetValue(task, null);
            }
            return type == typeof(void) ? new byte[0] : Written(type, answer);
        }

        object Argument(Type type, Event given)
        {
            if (type.FullName == Context)
                return Duck.Context(type, given);
            if (typeof(Stream).IsAssignableFrom(type))
                return new MemoryStream(given.Body);
            if (serializer == null)
                return Json.To(type, Json.Parse(Encoding.UTF8.GetString(given.Body)));
            return Generic("Deserialize", type, new MemoryStream(given.Body));
        }

        byte[] Written(Type type, object answer)
        {
            var written = new MemoryStream();
            var stream = answer as Stream;
            if (stream != null)
                stream.CopyTo(written);
            else if (serializer != null)
                Generic("Serialize", type, answer, written);
            else
                return Encoding.UTF8.GetBytes(Json.Write(answer));
            return written.ToArray();
        }

        object Generic(string name, Type type, params object[] arguments)
        {
            var generic = serializer.GetType().GetMethods().First(one => one.Name == name && one.IsGenericMethod);
            return Unwrapped(() => generic.MakeGenericMethod(type).Invoke(serializer, arguments));
        }

        static object SerializerOf(ICustomAttributeProvider place)
        {
            var marks = place.GetCustomAttributes(false);
            var mark = marks.FirstOrDefault(one => one.GetType().FullName == Serializer);
            if (mark == null)
                return null;
            var type = (Type)mark.GetType().GetProperty("SerializerType").GetValue(mark, null);
            return Activator.CreateInstance(type);
        }

        /// Reflection wraps the function's exceptions; this method throws the original one.
        static object Unwrapped(Func<object> call)
        {
            try
            {
                return call();
            }
            catch (TargetInvocationException wrapped)
            {
                ExceptionDispatchInfo.Capture(wrapped.InnerException).Throw();
                throw;
            }
        }
    }
}
