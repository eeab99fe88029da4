# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The gateways that are compared, each a server of its own, private to the
# run. What differs between them is in this file; read it to judge whether
# each is configured well.
#
#     my $gateway = Gateway->start(kind => 'nginx', keep => 8,
#                                  targets => \@targets);
#
# Options:
#     kind      fcgi (this module), proxy (mod_proxy_fcgi) or nginx; alone, for
#               httpd that answers itself, and least, for the least that a
#               gateway can do (answer.c, of a target on a unix socket)
#     keep      0: a connection to the application for each request; else how
#               many idle ones are kept
#     max       fcgi: max= of the backend; proxy with keep: connections of a
#               child (its max=), else no limit. nginx has none that waits
#     targets   [{ name, type => app or php, address => path or host:port }];
#               asked as url($target)
#     park      fcgi: FcgiPark
#     http2     clients speak HTTP/2, without TLS
#     crowd     how many requests may wait at once; else as it is by default
#     children  processes of a threaded httpd, and of nginx (2)
#     threads   of each of those children (64); children times threads is the
#               number of prefork's processes
#
# What all have in common: static.txt, an access log with the same fields, no
# .htaccess files, 1000 requests on a client's connection (over HTTP/2 as many
# as it likes), everything else as it is by default. fcgi and mod_proxy_fcgi have
# a server each: httpd of the same package, with the same numbers of processes
# and threads.
package Gateway;

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use Httpd;
use Private;

# As the tables call them: httpd's modules without "mod_".
my %NAMES = (fcgi => 'fastcgi_handler', proxy => 'proxy_fcgi',
             nginx => 'nginx', alone => 'httpd alone', least => 'the least');

my $HERE = abs_path(dirname(__FILE__));

# For PHP-FPM: small answer, big answer, a body that is read to its end.
my %SCRIPTS = (
    'small.php' => '<?php header("Content-Type: text/plain"); echo "ok 0\n";',
    'big.php' => <<'EOC',
<?php
header("Content-Type: text/plain");
$piece = str_repeat("x", 65536);
for ($i = 0; $i < 160; $i++) { echo $piece; }
EOC
    'upload.php' => <<'EOC');
<?php
header("Content-Type: text/plain");
$in = fopen("php://input", "r");
for ($len = 0; !feof($in); ) { $len += strlen(fread($in, 65536)); }
echo "ok $len\n";
EOC

# Timeout: httpd's default.
my $COMMON = <<'EOC';
Timeout 60
KeepAlive On
MaxKeepAliveRequests 1000
<Directory @DOCROOT@>
  AllowOverride None
  Options FollowSymLinks
  Require all granted
</Directory>
EOC

sub start {
    my ($class, %opt) = @_;
    my $self = bless { keep => 0, max => 0, children => 2, threads => 64,
                       %opt }, $class;
    $self->{server} = $self->{kind} eq 'nginx' ? $self->start_nginx
        : $self->start_httpd;
    return $self;
}

sub name {
    my ($self) = @_;
    return $NAMES{$self->{kind}} . ($self->{keep} ? ' kept' : '')
        . (defined $self->{park} ? " FcgiPark $self->{park}" : '');
}

sub url {
    my ($self, $target, $script) = @_;
    my $path = '/' . $self->place($target) . '/';
    $path .= $script ? "$script.php" : 'small.php' if $target->{type} eq 'php';
    return 'http://127.0.0.1:' . $self->port . $path;
}

# The first part of its URLs.
sub place {
    my ($self, $target) = @_;
    return { alone => 'answer', least => 'least' }->{ $self->{kind} }
        // $target->{name};
}

sub static_path { return '/static.txt' }

sub port { return $_[0]{server}->port }
sub stop { return $_[0]{server}->stop }

# The processes that serve.
sub pids {
    my ($self) = @_;
    my $main = $self->{server}->pid;
    return split ' ', Private::slurp("/proc/$main/task/$main/children");
}

# Seconds of processor time of all its processes, so far.
sub cpu {
    my ($self) = @_;
    my $main = $self->{server}->pid;
    my $ticks = 0;
    for my $pid ($main, $self->pids) {
        my ($fields) = Private::slurp("/proc/$pid/stat") =~ /\) (.*)/ or next;
        my @times = (split ' ', $fields)[11 .. 14];
        $ticks += $times[0] + $times[1];
        $ticks += $times[2] + $times[3] if $pid == $main;  # those that ended
    }
    return $ticks / 100;
}

# ---- httpd ----

sub start_httpd {
    my ($self) = @_;
    my $is_ours = $self->{kind} eq 'fcgi';
    return Httpd->start(
        module => $is_ours ? 1 : 0, http2 => $self->{http2},
        modules => $self->{kind} eq 'proxy' ? [qw(proxy proxy_fcgi)] : [],
        log_level => 'notice', mpm => $self->mpm, files => $self->scripts,
        access_format => '%h - %u %t \"%r\" %>s %B \"%{User-Agent}i\"',
        config => $COMMON . (defined $self->{park}
            ? "FcgiPark $self->{park}\n" : '') . join '', map {
            $is_ours ? $self->fcgi_lines($_)
                : $self->{kind} eq 'proxy' ? $self->proxy_lines($_)
                : answer_lines($_)
        } @{ $self->{targets} });
}

sub mpm {
    my ($self) = @_;
    my ($children, $threads) = @$self{qw(children threads)};
    my $all = $children * $threads;
    my $crowd = $self->crowd_lines;
    return Httpd::mpm() eq 'prefork' ? <<"EOP" : <<"EOT";
StartServers 16
ServerLimit $all
MinSpareServers 1
MaxSpareServers $all
MaxRequestWorkers $all
EOP
StartServers $children
ServerLimit $children
ThreadLimit $threads
ThreadsPerChild $threads
MinSpareThreads 1
MaxSpareThreads $all
MaxRequestWorkers $all
$crowd
EOT
}

# Room for so many connections in the children together, and a fifth more, as
# they do not share them evenly.
sub crowd_lines {
    my ($self) = @_;
    my $crowd = $self->{crowd} or return '';
    my $factor = 2 + int(1.2 * $crowd / ($self->{children} * $self->{threads}));
    return "AsyncRequestWorkerFactor $factor\nListenBacklog 4096\n";
}

# The scripts of each pool of PHP-FPM below a folder of its own.
sub scripts {
    my ($self) = @_;
    my %files = ('static.txt' => 'static');
    for my $target (grep { $_->{type} eq 'php' } @{ $self->{targets} }) {
        $files{"$target->{name}/$_"} = $SCRIPTS{$_} for keys %SCRIPTS;
    }
    return \%files;
}

# FcgiScript Virtual: no file is looked for, as with ProxyPass and nginx.
sub fcgi_lines {
    my ($self, $target) = @_;
    my $settings = ($self->{max} ? " max=$self->{max}" : '')
        . ($self->{keep} ? " keepalive=$self->{keep}" : '');
    my $backend = $settings ? "FcgiBackend $target->{address}$settings\n" : '';
    return $backend . ($target->{type} eq 'php' ? <<"EOP" : <<"EOA");
<Directory \@DOCROOT\@/$target->{name}>
  <FilesMatch "\\.php\$">
    SetHandler fcgi:$target->{address}
  </FilesMatch>
</Directory>
EOP
<Location /$target->{name}>
  SetHandler fcgi:$target->{address}
  FcgiScript Virtual
</Location>
EOA
}

# As its documentation has it: SetHandler for PHP, with a Proxy section for
# the worker's settings, and ProxyPass for an application that owns a URL.
sub proxy_lines {
    my ($self, $target) = @_;
    my $is_unix = $target->{address} =~ m{^/};
    my $worker = $is_unix ? "fcgi://$target->{name}"
        : "fcgi://$target->{address}";
    my $socket = $is_unix ? "unix:$target->{address}|" : '';
    my $settings = !$self->{keep} ? ''
        : ' enablereuse=on' . ($self->{max} ? " max=$self->{max}" : '');
    return qq(ProxyPass "/$target->{name}/" "$socket$worker/"$settings\n)
        if $target->{type} eq 'app';
    my $section = $settings
        ? qq(<Proxy "$worker/">\n  ProxySet$settings\n</Proxy>\n) : '';
    return $section . <<"EOP";
<Directory \@DOCROOT\@/$target->{name}>
  <FilesMatch "\\.php\$">
    SetHandler "proxy:$socket$worker"
  </FilesMatch>
</Directory>
EOP
}

my $answer_dir;

# answer.c as a module, compiled once in a run.
sub answer_module {
    my $apxs = $ENV{APXS} || 'apxs';
    if (!$answer_dir) {
        $answer_dir = Private::temp_dir('answer');
        Private::spew("$answer_dir/answer.c",
                      Private::slurp("$HERE/answer.c"));
        my ($status, $output) = Private::run(
            'sh', '-c', "cd '$answer_dir' && $apxs -c -o answer.so answer.c");
        die "answer.c: $output" if $status;
    }
    return "$answer_dir/.libs/answer.so";
}

sub answer_lines {
    my ($target) = @_;
    my $module = answer_module();
    return <<"EOC";
LoadModule bench_answer_module $module
BenchLeast $target->{address}
<Location /answer>
  SetHandler bench-answer
</Location>
<Location /least>
  SetHandler bench-least
</Location>
EOC
}

# ---- nginx ----

sub start_nginx {
    my ($self) = @_;
    my $server = Gateway::Nginx->new('nginx');
    $server->{port} = Private::reserve_port();
    my $files = $self->scripts;
    Private::spew("$server->{dir}/docs/$_", $files->{$_}) for keys %$files;
    Private::spew("$server->{dir}/nginx.conf", $self->nginx_conf($server));
    $server->run;
    return $server;
}

sub nginx_conf {
    my ($self, $server) = @_;
    my $dir = $server->{dir};
    my $user = $> == 0 ? "user www-data;\n" : '';
    my @targets = map { $self->nginx_lines($_) } @{ $self->{targets} };
    my $upstreams = join '', map { $_->[0] } @targets;
    my $locations = join '', map { $_->[1] } @targets;
    my $port = $server->port;
    my $connections = $self->{crowd} ? 3 * $self->{crowd} : 1024;
    my $limit = $self->{crowd} ? "worker_rlimit_nofile $connections;\n" : '';
    my $options = ($self->{crowd} ? ' backlog=4096' : '')
        . ($self->{http2} ? ' http2' : '');
    my $requests = $self->{http2} ? 1_000_000 : 1000;
    return <<"EOC";
daemon off;
${user}worker_processes $self->{children};
${limit}pid $dir/pid;
error_log $dir/error.log warn;
events { worker_connections $connections; }
http {
    access_log $dir/access.log combined;
    client_body_temp_path $dir/body;
    fastcgi_temp_path $dir/fastcgi;
    proxy_temp_path $dir/proxy;
    scgi_temp_path $dir/scgi;
    uwsgi_temp_path $dir/uwsgi;
    client_max_body_size 0;
    keepalive_requests $requests;
    sendfile on;
    tcp_nopush on;
    include /etc/nginx/fastcgi_params;
    fastcgi_param SCRIPT_FILENAME \$document_root\$fastcgi_script_name;
$upstreams
    server {
        listen 127.0.0.1:$port$options;
        root $dir/docs;
$locations
    }
}
EOC
}

# An upstream section and a location. In a location of its own a fastcgi_param
# would take away those of the whole server.
sub nginx_lines {
    my ($self, $target) = @_;
    my ($name, $address) = @$target{qw(name address)};
    my $socket = $address =~ m{^/} ? "unix:$address" : $address;
    my $keep = $self->{keep} ? "keepalive $self->{keep};" : '';
    my $flag = $self->{keep} ? 'fastcgi_keep_conn on;' : '';
    my $match = $target->{type} eq 'php' ? "~ ^/$name/.*\\.php\$"
        : "/$name/";
    return ["    upstream $name { server $socket; $keep }\n",
            "        location $match { fastcgi_pass $name; $flag }\n"];
}

package Gateway::Nginx;

use strict;
use warnings;
use IO::Socket::INET;
use Private;

our @ISA = qw(Private::Server);

sub program { return (grep { -x } qw(/usr/sbin/nginx /usr/bin/nginx))[0] }

sub run {
    my ($self) = @_;
    $self->{pid} = Private::spawn(
        exec => [program(), '-c', "$self->{dir}/nginx.conf",
                 '-e', "$self->{dir}/error.log"],
        log => "$self->{dir}/output");
    Private::wait_until(10, sub {
        !Private::alive($self->{pid}) || IO::Socket::INET->new(
            PeerAddr => '127.0.0.1', PeerPort => $self->port);
    }) && Private::alive($self->{pid})
        or die "nginx did not start\n" . $self->words;
    return;
}

sub port { return $_[0]{port}->sockport }
sub pid  { return $_[0]{pid} }

sub error_log { return Private::slurp("$_[0]{dir}/error.log") }
sub words { return Private::slurp("$_[0]{dir}/output") . $_[0]->error_log }

1;
