# frozen_string_literal: true

# The client of the Runtime API for Ruby (contract §1). It needs only the standard library. It loads the code,
# passes each event to the handler and posts the answer. Handler forms, context, error bodies and the errors
# that end the process are those of the original platform's Ruby runtime.

require 'json'
require 'logger'
require 'net/http'
require 'stringio'

$stdout.sync = true
Encoding.default_external = Encoding::UTF_8

module PilotlightRuntime
  # The context that a handler gets with its event.
  class LambdaContext
    attr_reader :aws_request_id, :invoked_function_arn, :log_group_name, :log_stream_name,
                :function_name, :memory_limit_in_mb, :function_version, :identity, :client_context,
                :tenant_id, :deadline_ms, :clock_diff

    def initialize(event)
      @aws_request_id = event['Lambda-Runtime-Aws-Request-Id']
      @deadline_ms = event['Lambda-Runtime-Deadline-Ms'].to_i
      # The difference between the wall clock and the monotonic clock, which is never set.
      monotonic = Process.clock_gettime(Process::CLOCK_MONOTONIC, :millisecond)
      @clock_diff = Process.clock_gettime(Process::CLOCK_REALTIME, :millisecond) - monotonic
      @invoked_function_arn = event['Lambda-Runtime-Invoked-Function-Arn']
      @tenant_id = event['Lambda-Runtime-Aws-Tenant-Id']
      @client_context = parsed(event['Lambda-Runtime-Client-Context'])
      @identity = parsed(event['Lambda-Runtime-Cognito-Identity'])
      @log_group_name = ENV['AWS_LAMBDA_LOG_GROUP_NAME']
      @log_stream_name = ENV['AWS_LAMBDA_LOG_STREAM_NAME']
      @function_name = ENV['AWS_LAMBDA_FUNCTION_NAME']
      @memory_limit_in_mb = ENV['AWS_LAMBDA_FUNCTION_MEMORY_SIZE']
      @function_version = ENV['AWS_LAMBDA_FUNCTION_VERSION']
    end

    def get_remaining_time_in_millis
      now = Process.clock_gettime(Process::CLOCK_MONOTONIC, :millisecond) + clock_diff
      [@deadline_ms - now, 0].max
    end

    private

    # Net::HTTP returns headers as bytes; the supervisor sends UTF-8.
    def parsed(header)
      JSON.parse(header.dup.force_encoding(Encoding::UTF_8)) if header
    end
  end

  # `file.method` or `file.Module::Class.method`.
  class Handler
    attr_reader :file

    def initialize(text)
      @file, *rest = text.split('.')
      @method = rest.pop
      @owner = rest.pop
      return if @method && rest.empty?

      raise ArgumentError, "Invalid handler #{text}, must be of form FILENAME.METHOD or " \
                           'FILENAME.CLASS.METHOD: FILENAME is a Ruby file without .rb, METHOD one of its ' \
                           'methods, or with CLASS a method of that class or module'
    end

    def call(event, context)
      receiver = @owner ? Kernel.const_get(@owner) : TOPLEVEL_BINDING.receiver
      answer = receiver.send(@method, event: event, context: context)
      case answer
      when StringIO, IO then [answer.read, 'application/unknown']
      else [JSON.generate(answer), 'application/json']
      end
    end
  end

  # One connection to the supervisor, kept open.
  class Api
    BASE = '/2018-06-01/runtime'

    def initialize(address)
      host, port = address.split(':')
      @http = Net::HTTP.new(host, port, nil)
      # The next event may come after hours.
      @http.read_timeout = nil
      @http.keep_alive_timeout = 24 * 60 * 60
      @http.start
    end

    def next_event
      answer = @http.get("#{BASE}/invocation/next")
      raise "no event: status #{answer.code}: #{answer.body}" unless answer.code == '200'

      answer
    end

    def respond(id, body, type)
      @http.post("#{BASE}/invocation/#{id}/response", body, 'Content-Type' => type)
    end

    def fail(place, failure, header)
      headers = { 'Content-Type' => 'application/json', 'Lambda-Runtime-Function-Error-Type' => header }
      @http.post("#{BASE}/#{place}", JSON.generate(failure), headers)
    end
  end

  # Writes records, which may have several lines, as frames: kind, length, time in microseconds, text
  # (runtime-image/supervisor/src/records.rs).
  class Records
    KIND = 0xa55a0003

    def initialize(descriptor)
      @file = IO.for_fd(descriptor, 'wb', autoclose: false)
      @file.sync = true
    end

    # One write for each frame, because other threads may write to the pipe.
    def write(text)
      time = Process.clock_gettime(Process::CLOCK_REALTIME, :microsecond)
      @file.write([KIND, text.bytesize, time].pack('L>L>Q>') << text.b)
      text.bytesize
    end

    # A Logger closes its device, but the descriptor must stay open.
    def close; end
  end

  # `puts` is one record, as on the original platform.
  module Printing
    def puts(*lines)
      return super unless $stdout.equal?(STDOUT)

      text = StringIO.new
      text.puts(*lines)
      PilotlightRuntime.records.write(text.string)
      nil
    end
  end

  # A Logger's message is one record that names its invocation, as on the original platform.
  module Logging
    def initialize(device, *rest, formatter: nil, **options)
      return super unless [STDOUT, STDERR].any? { |own| own.equal?(device) }

      super(PilotlightRuntime.records, *rest, formatter: formatter || Formatter.new, **options)
    end
  end

  # Formats a line as Ruby's own formatter does, with the request id added.
  class Formatter
    FORM = '%s, [%s #%d] %5s %s -- %s: %s'

    def call(severity, time, program, message)
      time = time.strftime('%Y-%m-%dT%H:%M:%S.%6N')
      format(FORM, severity[0], time, Process.pid, severity, PilotlightRuntime.request_id, program, text(message))
    end

    private

    def text(message)
      case message
      when String then message
      when Exception
        "#{message.message} (#{message.class})\n#{message.backtrace&.join("\n")}"
      else message.inspect
      end
    end
  end

  # Error types that are reported to the platform by name. All others are reported as the user's own.
  NAMED = %w[ArgumentError NoMethodError Exception StandardError NameError LoadError SystemExit SystemStackError].freeze
  FRAMES = 100

  class << self
    attr_reader :records
    attr_accessor :request_id
  end

  # Without a descriptor the client prints lines instead of records.
  def self.take_records
    descriptor = ENV.delete('_LAMBDA_TELEMETRY_LOG_FD')
    return unless descriptor

    @records = Records.new(descriptor.to_i)
    Object.include(Printing)
    # A function may have replaced Ruby's logger with a file of its own.
    Logger.prepend(Logging) if defined?(Logger::LogDevice)
  rescue SystemCallError
    @records = nil
  end

  module_function

  def failure(error, phase)
    frames = (error.backtrace || []).reject { |line| line.start_with?("#{__FILE__}:") }
    whole = ->(text) { text.dup.force_encoding(Encoding::UTF_8).scrub }
    {
      errorMessage: whole.call(error.message),
      errorType: "#{phase}<#{error.class}>",
      stackTrace: frames.first(FRAMES).map(&whole)
    }
  end

  def header(error, phase)
    NAMED.include?(error.class.name) ? "#{phase}<#{error.class}>" : 'Function<UserException>'
  end

  # Logs an error in the same form as the original platform.
  def log(what, failure)
    puts "#{what}: #{JSON.generate(failure)}"
  end

  # Whether the error means that the code itself is broken. Then the process ends, and a fresh one gets the next event.
  def breaks?(error)
    error.is_a?(NameError) || !error.is_a?(StandardError)
  end

  def load_code(api, text)
    root = ENV['LAMBDA_TASK_ROOT'] || Dir.pwd
    $LOAD_PATH.unshift(root) unless $LOAD_PATH.include?(root)
    handler = Handler.new(text)
    require handler.file
    handler
  rescue Exception => error # any kind: code at the top of a file may raise anything
    told = failure(error, 'Init')
    log("Init error when loading handler #{text}", told)
    api.fail('init/error', told, header(error, 'Init'))
    exit!(252)
  end

  def serve(api, handler)
    event = api.next_event
    id = event['Lambda-Runtime-Aws-Request-Id']
    trace = event['Lambda-Runtime-Trace-Id']
    ENV['_X_AMZN_TRACE_ID'] = trace if trace
    PilotlightRuntime.request_id = id
    begin
      body, type = handler.call(parse(event), LambdaContext.new(event))
    rescue SystemExit
      raise
    rescue Exception => error # a handler may raise anything
      told = failure(error, 'Function')
      log(breaks?(error) ? 'Critical exception from handler' : 'Error raised from handler method', told)
      api.fail("invocation/#{id}/error", told, header(error, 'Function'))
      exit!(255) if breaks?(error)
      return
    end
    api.respond(id, body, type)
  end

  def parse(event)
    body = event.body.dup.force_encoding(Encoding::UTF_8)
    event['Content-Type'] == 'application/json' ? JSON.parse(body) : body
  end

  def run(text)
    take_records
    api = Api.new(ENV.fetch('AWS_LAMBDA_RUNTIME_API'))
    handler = load_code(api, text)
    loop { serve(api, handler) }
  end
end

if $PROGRAM_NAME == __FILE__
  # Without a handler this is the process of an unclaimed instance, which waits for its claim.
  load File.join(__dir__, 'prestart.rb'), true if ARGV.empty?
  PilotlightRuntime.run(ARGV.fetch(0))
end
